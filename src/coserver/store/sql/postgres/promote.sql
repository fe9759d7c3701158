-- Scheduled jobs whose time has come take fresh places in line, in the order of their times, or among
-- those that wait at a limit.
WITH due AS MATERIALIZED (
    SELECT j.id, coalesce(j.limit_key, (SELECT l.name FROM coserver_limit l WHERE l.name = 'queue:' || j.queue)) AS key
      FROM coserver_job j
     WHERE state = 4 AND run_at <= (date_part('epoch', now()) * 1000000)::bigint
     ORDER BY run_at, id LIMIT %(limit)s::integer
       FOR UPDATE OF j SKIP LOCKED
), placed AS MATERIALIZED (
    SELECT id, key, nextval('coserver_seq') AS seq FROM due
), gates AS (
    INSERT INTO coserver_gate (key, at)
    SELECT DISTINCT key, 0 FROM due WHERE key IS NOT NULL
)
UPDATE coserver_job j SET state = CASE WHEN p.key IS NULL THEN 5 ELSE 3 END, seq = p.seq, blocked_on = p.key
  FROM placed p WHERE j.id = ANY (ARRAY[p.id]) AND j.state + 0 = 4
RETURNING j.id, j.state
