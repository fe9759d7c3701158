-- Which jobs wait, grouped: new ones by task, queued ones by (queue, task), suspects apart; how many of each up to a cap,
-- and the oldest. From group to group by probes of an index, never along it: the cost follows the number of groups, not
-- that of the jobs. A step remembers a row of its group, because a subquery gives one value; it looks in the same queue,
-- then in the next, because SQLite reads along an index for `(queue, task) > (…)`. New rows may have any priority. Text
-- as bytes, because plain SQL may have put in what is not UTF-8.
WITH RECURSIVE
new (id, step) AS (
    SELECT (SELECT n.id FROM coserver_job n WHERE n.state = 0 AND n.task >= '' ORDER BY n.task LIMIT 1), 1
    UNION ALL
    SELECT (SELECT n.id FROM coserver_job n WHERE n.state = 0 AND n.task > j.task ORDER BY n.task LIMIT 1), step + 1
      FROM new CROSS JOIN coserver_job j ON j.id = new.id
     WHERE step < :groups
),
ready (id, step) AS (
    SELECT (SELECT n.id FROM coserver_job n WHERE n.state = 5 AND n.crashes = 0 AND n.queue >= ''
             ORDER BY n.queue, n.task LIMIT 1), 1
    UNION ALL
    SELECT coalesce((SELECT n.id FROM coserver_job n
                      WHERE n.state = 5 AND n.crashes = 0 AND n.queue = j.queue AND n.task > j.task
                      ORDER BY n.task LIMIT 1),
                    (SELECT n.id FROM coserver_job n
                      WHERE n.state = 5 AND n.crashes = 0 AND n.queue > j.queue
                      ORDER BY n.queue, n.task LIMIT 1)), step + 1
      FROM ready CROSS JOIN coserver_job j ON j.id = ready.id
     WHERE step < :groups
),
suspect (id, step) AS (
    SELECT (SELECT n.id FROM coserver_job n WHERE n.state = 5 AND n.crashes > 0 AND n.queue >= ''
             ORDER BY n.queue, n.task LIMIT 1), 1
    UNION ALL
    SELECT coalesce((SELECT n.id FROM coserver_job n
                      WHERE n.state = 5 AND n.crashes > 0 AND n.queue = j.queue AND n.task > j.task
                      ORDER BY n.task LIMIT 1),
                    (SELECT n.id FROM coserver_job n
                      WHERE n.state = 5 AND n.crashes > 0 AND n.queue > j.queue
                      ORDER BY n.queue, n.task LIMIT 1)), step + 1
      FROM suspect CROSS JOIN coserver_job j ON j.id = suspect.id
     WHERE step < :groups
),
found (state, queue, task, number, oldest) AS (
    SELECT 0, NULL, CAST(j.task AS BLOB),
           (SELECT count(*) FROM (SELECT 1 FROM coserver_job c WHERE c.state = 0 AND c.task = j.task LIMIT :cap)),
           coalesce((SELECT min((SELECT f.id FROM coserver_job f
                                  WHERE f.state = 0 AND f.task = j.task AND f.priority = p.value
                                  ORDER BY f.id LIMIT 1)) FROM json_each('[0,1,2]') p), j.id)
      FROM new CROSS JOIN coserver_job j ON j.id = new.id
    UNION ALL
    SELECT 5, CAST(j.queue AS BLOB), CAST(j.task AS BLOB),
           (SELECT count(*) FROM (SELECT 1 FROM coserver_job c
                                   WHERE c.state = 5 AND c.crashes = 0 AND c.queue = j.queue AND c.task = j.task
                                   LIMIT :cap)),
           (SELECT min((SELECT f.id FROM coserver_job f
                         WHERE f.state = 5 AND f.crashes = 0 AND f.queue = j.queue AND f.task = j.task
                           AND f.priority = p.value
                         ORDER BY f.seq LIMIT 1)) FROM json_each('[0,1,2]') p)
      FROM ready CROSS JOIN coserver_job j ON j.id = ready.id
    UNION ALL
    SELECT 5, CAST(j.queue AS BLOB), CAST(j.task AS BLOB),
           (SELECT count(*) FROM (SELECT 1 FROM coserver_job c
                                   WHERE c.state = 5 AND c.crashes > 0 AND c.queue = j.queue AND c.task = j.task
                                   LIMIT :cap)),
           (SELECT min((SELECT f.id FROM coserver_job f
                         WHERE f.state = 5 AND f.crashes > 0 AND f.queue = j.queue AND f.task = j.task
                           AND f.priority = p.value
                         ORDER BY f.seq LIMIT 1)) FROM json_each('[0,1,2]') p)
      FROM suspect CROSS JOIN coserver_job j ON j.id = suspect.id
)
SELECT g.state, g.queue, g.task, g.number, o.id, o.created_at
  FROM found g CROSS JOIN coserver_job o ON o.id = g.oldest
