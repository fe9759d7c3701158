-- Which jobs wait, grouped: new ones by task, queued ones by (queue, task), suspects apart; how many of each up to a cap,
-- and the oldest. From group to group by one probe of an index, never along it: the cost follows the number of groups,
-- not that of the jobs. New rows may have any priority.
WITH RECURSIVE new AS (
    SELECT f.id, f.task, 1 AS step
      FROM (SELECT id, task FROM coserver_job WHERE state = 0 AND task >= '' ORDER BY task LIMIT 1) f
    UNION ALL
    SELECT f.id, f.task, g.step + 1
      FROM new g CROSS JOIN LATERAL (
           SELECT id, task FROM coserver_job WHERE state = 0 AND task > g.task ORDER BY task LIMIT 1) f
     WHERE g.step < %(groups)s::integer
), ready AS (
    SELECT f.queue, f.task, 1 AS step
      FROM (SELECT queue, task FROM coserver_job
             WHERE state = 5 AND crashes = 0 AND queue >= '' ORDER BY queue, task LIMIT 1) f
    UNION ALL
    SELECT f.queue, f.task, g.step + 1
      FROM ready g CROSS JOIN LATERAL (
           SELECT queue, task FROM coserver_job
            WHERE state = 5 AND crashes = 0 AND (queue, task) > (g.queue, g.task) ORDER BY queue, task LIMIT 1) f
     WHERE g.step < %(groups)s::integer
), suspect AS (
    SELECT f.queue, f.task, 1 AS step
      FROM (SELECT queue, task FROM coserver_job
             WHERE state = 5 AND crashes > 0 AND queue >= '' ORDER BY queue, task LIMIT 1) f
    UNION ALL
    SELECT f.queue, f.task, g.step + 1
      FROM suspect g CROSS JOIN LATERAL (
           SELECT queue, task FROM coserver_job
            WHERE state = 5 AND crashes > 0 AND (queue, task) > (g.queue, g.task) ORDER BY queue, task LIMIT 1) f
     WHERE g.step < %(groups)s::integer
)
SELECT 0, NULL, g.task,
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job c
                               WHERE c.state = 0 AND c.task = g.task LIMIT %(cap)s::integer) c),
       o.id, o.created_at
  FROM new g CROSS JOIN LATERAL (
       SELECT f.id, f.created_at
         FROM (VALUES (0::smallint), (1::smallint), (2::smallint)) p (priority) CROSS JOIN LATERAL (
              SELECT j.id, j.created_at FROM coserver_job j
               WHERE j.state = 0 AND j.task = g.task AND j.priority = p.priority
               ORDER BY j.id LIMIT 1) f
        UNION ALL
       SELECT j.id, j.created_at FROM coserver_job j WHERE j.id = ANY (ARRAY[g.id])
        ORDER BY 1 LIMIT 1) o
UNION ALL
SELECT 5, g.queue, g.task,
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job c
                               WHERE c.state = 5 AND c.crashes = 0 AND c.queue = g.queue AND c.task = g.task
                               LIMIT %(cap)s::integer) c),
       o.id, o.created_at
  FROM ready g CROSS JOIN LATERAL (
       SELECT f.id, f.created_at
         FROM (VALUES (0::smallint), (1::smallint), (2::smallint)) p (priority) CROSS JOIN LATERAL (
              SELECT j.id, j.created_at FROM coserver_job j
               WHERE j.state = 5 AND j.crashes = 0 AND j.queue = g.queue AND j.task = g.task AND j.priority = p.priority
               ORDER BY j.seq LIMIT 1) f
        ORDER BY f.id LIMIT 1) o
UNION ALL
SELECT 5, g.queue, g.task,
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job c
                               WHERE c.state = 5 AND c.crashes > 0 AND c.queue = g.queue AND c.task = g.task
                               LIMIT %(cap)s::integer) c),
       o.id, o.created_at
  FROM suspect g CROSS JOIN LATERAL (
       SELECT f.id, f.created_at
         FROM (VALUES (0::smallint), (1::smallint), (2::smallint)) p (priority) CROSS JOIN LATERAL (
              SELECT j.id, j.created_at FROM coserver_job j
               WHERE j.state = 5 AND j.crashes > 0 AND j.queue = g.queue AND j.task = g.task AND j.priority = p.priority
               ORDER BY j.seq LIMIT 1) f
        ORDER BY f.id LIMIT 1) o
