-- Claim the first of the jobs that have killed workers, alone. SQLite does it in `suspect` and `claim`.
WITH picked AS MATERIALIZED (
    SELECT c.id
      FROM unnest(%(queues)s::text[], %(tasks)s::text[]) AS p (queue, task),
           LATERAL (SELECT j.id, j.priority, j.seq FROM coserver_job j
                     WHERE j.state = 5 AND j.crashes > 0 AND j.queue = p.queue AND j.task = p.task
                     ORDER BY j.priority, j.seq LIMIT 1
                       FOR UPDATE SKIP LOCKED) c
     WHERE EXISTS (SELECT 1 FROM coserver_worker WHERE id = %(worker)s::bigint AND state + 0 = 0)
     ORDER BY c.priority, c.seq LIMIT 1
)
UPDATE coserver_job j
   SET state = 6, worker = %(worker)s::bigint, claim = j.claim + 1,
       claimed_at = (date_part('epoch', now()) * 1000000)::bigint
  FROM picked p WHERE j.id = ANY (ARRAY[p.id]) AND j.state + 0 = 5
RETURNING j.id, j.claim, j.task, j.queue,
          coalesce(j.args, (SELECT b.data FROM coserver_blob b WHERE b.job = j.id AND b.kind = 0), 'null'),
          j.attempt, j.crashes, j.priority, j.created_at, j.options, j.seq
