-- Is there anything that this worker could take, or that it should route, promote or free?
WITH me AS MATERIALIZED (
    SELECT queues::json AS queues, tasks::json AS tasks FROM coserver_worker WHERE id = %(worker)s::bigint AND state = 0
), tasks AS MATERIALIZED (
    SELECT t.value AS task FROM me, LATERAL json_array_elements_text(me.tasks) AS t
), pairs AS MATERIALIZED (
    SELECT q.value AS queue, t.task FROM me, LATERAL json_array_elements_text(me.queues) AS q, tasks t
)
SELECT NOT EXISTS (SELECT 1 FROM me)
    OR EXISTS (SELECT 1 FROM pairs p WHERE EXISTS (
                SELECT 1 FROM coserver_job j
                 WHERE j.state = 5 AND j.crashes = 0 AND j.queue = p.queue AND j.task = p.task))
    OR EXISTS (SELECT 1 FROM pairs p WHERE EXISTS (
                SELECT 1 FROM coserver_job j
                 WHERE j.state = 5 AND j.crashes > 0 AND j.queue = p.queue AND j.task = p.task))
    OR EXISTS (SELECT 1 FROM tasks t WHERE EXISTS (
                SELECT 1 FROM coserver_job j WHERE j.state = 0 AND j.task = t.task))
    OR EXISTS (SELECT 1 FROM coserver_job
                WHERE state = 4 AND run_at <= (date_part('epoch', clock_timestamp()) * 1000000)::bigint)
    OR EXISTS (SELECT 1 FROM coserver_worker w
                WHERE w.state < 2
                  AND CASE WHEN w.state = 0
                           THEN w.lease_until < date_part('epoch', now()) * 1000000 AND w.id <> %(worker)s::bigint
                           ELSE EXISTS (SELECT 1 FROM coserver_job j WHERE j.worker = w.id AND j.state = 6)
                      END)
