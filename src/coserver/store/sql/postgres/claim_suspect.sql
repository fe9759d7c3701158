-- Claim the first of the jobs that have killed workers, alone. SQLite does it in `suspect` and `claim`.
WITH picked AS MATERIALIZED (
    SELECT c.id
      FROM (SELECT p.queue, p.task,
                   p.queue = ANY (ARRAY(SELECT substr(name, 7) FROM coserver_limit WHERE starts_with(name, 'queue:'))) AS limited
              FROM unnest(%(queues)s::text[], %(tasks)s::text[]) AS p (queue, task)
             WHERE p.queue <> ALL (ARRAY(SELECT name FROM coserver_queue WHERE paused_at IS NOT NULL))) p,
           LATERAL (SELECT j.id, j.priority, j.seq FROM coserver_job j
                     WHERE j.state = 5 AND j.crashes > 0 AND j.queue = p.queue AND j.task = p.task
                       AND (NOT p.limited OR EXISTS (SELECT 1 FROM coserver_slot s WHERE s.job = j.id AND s.key = 'queue:' || j.queue))
                     ORDER BY j.priority, j.seq LIMIT 1
                       FOR UPDATE SKIP LOCKED) c
     WHERE EXISTS (SELECT 1 FROM coserver_worker WHERE id = %(worker)s::bigint AND state + 0 = 0)
     ORDER BY c.priority, c.seq LIMIT 1
)
UPDATE coserver_job j
   SET state = 6, worker = %(worker)s::bigint, claim = j.claim + 1,
       claimed_at = (date_part('epoch', clock_timestamp()) * 1000000)::bigint,
       unique_key = CASE WHEN j.flags & 8 = 0 THEN j.unique_key END, flags = j.flags & ~8
  FROM picked p WHERE j.id = ANY (ARRAY[p.id]) AND j.state + 0 = 5
RETURNING j.id, j.claim, j.task, j.queue,
          coalesce(j.args, (SELECT b.data FROM coserver_blob b WHERE b.job = j.id AND b.kind = 0), 'null'),
          j.attempt, j.crashes, j.priority, j.created_at, j.options, j.seq
