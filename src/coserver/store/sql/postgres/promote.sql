-- Scheduled jobs whose time has come take fresh places in line, in the order of their times.
WITH due AS MATERIALIZED (
    SELECT id FROM coserver_job
     WHERE state = 4 AND run_at <= (date_part('epoch', now()) * 1000000)::bigint
     ORDER BY run_at, id LIMIT %(limit)s::integer
       FOR UPDATE SKIP LOCKED
), placed AS MATERIALIZED (
    SELECT id, nextval('coserver_seq') AS seq FROM due
)
UPDATE coserver_job j SET state = 5, seq = p.seq FROM placed p WHERE j.id = ANY (ARRAY[p.id]) AND j.state + 0 = 4
RETURNING j.id
