-- Is there anything that this worker could take, or that it should route, promote or free? What has been overdue for a
-- second is in somebody's hands, or will be found in time by who ticks.
WITH me AS MATERIALIZED (
    SELECT queues::json AS queues, tasks::json AS tasks FROM coserver_worker WHERE id = %(worker)s::bigint AND state + 0 = 0
), tasks AS MATERIALIZED (
    SELECT t.value AS task FROM me, LATERAL json_array_elements_text(me.tasks) AS t
), pairs AS MATERIALIZED (
    SELECT q.value AS queue, t.task FROM me, LATERAL json_array_elements_text(me.queues) AS q, tasks t
     WHERE q.value <> ALL (ARRAY(SELECT name FROM coserver_queue WHERE paused_at IS NOT NULL))
)
SELECT NOT EXISTS (SELECT 1 FROM me)
    OR EXISTS (SELECT 1 FROM pairs p, LATERAL (
                      SELECT 1 FROM coserver_job j
                       WHERE j.state = 5 AND j.crashes = 0 AND j.queue = p.queue AND j.task = p.task
                         AND (j.begin_by BETWEEN 1 AND (date_part('epoch', clock_timestamp()) * 1000000)::bigint
                              AND j.attempt = 0) IS NOT TRUE
                       LIMIT 1) found)
    OR EXISTS (SELECT 1 FROM pairs p, LATERAL (
                      SELECT 1 FROM coserver_job j
                       WHERE j.state = 5 AND j.crashes > 0 AND j.queue = p.queue AND j.task = p.task LIMIT 1) found)
    OR EXISTS (SELECT 1 FROM tasks t, LATERAL (
                      SELECT 1 FROM coserver_job j WHERE j.state = 0 AND j.task = t.task LIMIT 1) found)
    OR coalesce((SELECT min(run_at) FROM coserver_job WHERE state = 4)
                <= (date_part('epoch', clock_timestamp()) * 1000000)::bigint, false)
    OR coalesce((SELECT min(at) FROM coserver_gate)
                <= (date_part('epoch', clock_timestamp()) * 1000000)::bigint, false)
    OR EXISTS (SELECT 1 FROM coserver_job
                WHERE begin_by <= (date_part('epoch', clock_timestamp()) * 1000000)::bigint
                  AND begin_by > (date_part('epoch', clock_timestamp()) * 1000000)::bigint - 1000000 AND @may_expire)
    OR EXISTS (SELECT 1 FROM coserver_worker w
                WHERE w.state < 2
                  AND CASE WHEN w.state = 0
                           THEN w.lease_until < date_part('epoch', now()) * 1000000 AND w.id <> %(worker)s::bigint
                                AND EXISTS (SELECT 1 FROM coserver_worker s
                                             WHERE s.state = 0
                                               AND s.steady_since + w.lease <= date_part('epoch', now()) * 1000000
                                               AND s.lease_until - s.lease / 2 >= date_part('epoch', now()) * 1000000)
                           ELSE EXISTS (SELECT 1 FROM coserver_job j WHERE j.worker = ANY (ARRAY[w.id]) AND j.state = 6)
                      END)
