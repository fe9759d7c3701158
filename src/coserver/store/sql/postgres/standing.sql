-- How a living job stands: what comes before it, of the tasks that whoever can take it provides (a new one: of its own
-- task), up to a cap; who holds it; whether its queue is paused; which job and which limit it waits
-- for, and when that limit is to be looked at.
SELECT me.state, me.worker,
       CASE me.state
       WHEN 0 THEN (SELECT count(*) FROM (
                        SELECT 1 FROM coserver_job n
                         WHERE n.state = 0 AND n.task = me.task AND n.priority < me.priority
                        UNION ALL
                        SELECT 1 FROM coserver_job n
                         WHERE n.state = 0 AND n.task = me.task AND n.priority = me.priority AND n.id < me.id
                        LIMIT %(cap)s::integer) n)
       WHEN 5 THEN (SELECT count(*) FROM (
                        SELECT 1 FROM unnest(%(tasks)s::text[]) t (task), LATERAL (
                               SELECT 1 FROM coserver_job j
                                WHERE j.state = 5 AND j.crashes = 0 AND j.queue = me.queue AND j.task = t.task
                                  AND (j.priority, j.seq) < (me.priority, me.seq)) j
                        UNION ALL
                        SELECT 1 FROM unnest(%(tasks)s::text[]) t (task), LATERAL (
                               SELECT 1 FROM coserver_job j
                                WHERE j.state = 5 AND j.crashes > 0 AND j.queue = me.queue AND j.task = t.task
                                  AND (j.priority, j.seq) < (me.priority, me.seq)) j
                        LIMIT %(cap)s::integer) n)
       ELSE 0 END,
       EXISTS (SELECT 1 FROM coserver_queue q WHERE q.name = me.queue AND q.paused_at IS NOT NULL),
       (SELECT d.parent FROM coserver_dep d WHERE d.child = me.id AND d.state IS NULL ORDER BY d.place LIMIT 1),
       me.blocked_on, (SELECT max(g.at) FROM coserver_gate g WHERE g.key = me.blocked_on), (date_part('epoch', clock_timestamp()) * 1000000)::bigint
  FROM coserver_job me WHERE me.id = %(id)s::bigint
