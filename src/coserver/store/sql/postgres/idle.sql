-- Parked workers for whom a job stands in line, of which nobody told them: it came on a connection of its producer's own.
SELECT w.id, w.wake FROM coserver_worker w
 WHERE w.parked = 1 AND w.state = 0
   AND EXISTS (SELECT 1 FROM json_array_elements_text(w.queues::json) AS q (value),
                             json_array_elements_text(w.tasks::json) AS t (value),
                             LATERAL (SELECT 1 FROM coserver_job j
                                       WHERE j.state = 5 AND j.crashes = 0 AND j.queue = q.value AND j.task = t.value
                                       LIMIT 1) found
                WHERE q.value <> ALL (ARRAY(SELECT name FROM coserver_queue WHERE paused_at IS NOT NULL)))
 LIMIT 50
