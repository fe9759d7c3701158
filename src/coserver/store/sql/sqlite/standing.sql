-- How a living job stands: what comes before it, of the tasks that whoever can take it provides (a new one: of its own
-- task), up to a cap; who holds it; whether its queue is paused; which job and which limit it waits
-- for, and when that limit is to be looked at. (`+` keeps
-- a column's affinity out of a comparison of rows, for which SQLite would not use all of an index.)
SELECT me.state, me.worker,
       CASE me.state
       WHEN 0 THEN (SELECT count(*) FROM (
                        SELECT 1 FROM coserver_job n
                         WHERE n.state = 0 AND n.task = me.task AND n.priority < me.priority
                        UNION ALL
                        SELECT 1 FROM coserver_job n
                         WHERE n.state = 0 AND n.task = me.task AND n.priority = me.priority AND n.id < me.id
                        LIMIT :cap))
       WHEN 5 THEN (SELECT count(*) FROM (
                        SELECT 1 FROM json_each(:tasks) t CROSS JOIN coserver_job j
                         WHERE j.state = 5 AND j.crashes = 0 AND j.queue = me.queue AND j.task = t.value
                           AND (j.priority, j.seq) < (+me.priority, +me.seq)
                        UNION ALL
                        SELECT 1 FROM json_each(:tasks) t CROSS JOIN coserver_job j
                         WHERE j.state = 5 AND j.crashes > 0 AND j.queue = me.queue AND j.task = t.value
                           AND (j.priority, j.seq) < (+me.priority, +me.seq)
                        LIMIT :cap))
       ELSE 0 END,
       EXISTS (SELECT 1 FROM coserver_queue q WHERE q.name = me.queue AND q.paused_at IS NOT NULL),
       (SELECT d.parent FROM coserver_dep d WHERE d.child = me.id AND d.state IS NULL ORDER BY d.place LIMIT 1),
       CAST(me.blocked_on AS BLOB), (SELECT max(g.at) FROM coserver_gate g WHERE g.key = me.blocked_on), :now
  FROM coserver_job me WHERE me.id = :id
