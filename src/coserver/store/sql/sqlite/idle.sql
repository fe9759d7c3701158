-- Parked workers for whom a job stands in line, of which nobody told them: it came on a connection of its producer's own.
SELECT w.id, w.wake FROM coserver_worker w
 WHERE w.parked = 1 AND w.state = 0
   AND EXISTS (SELECT 1 FROM json_each(w.queues) q CROSS JOIN json_each(w.tasks) t CROSS JOIN coserver_job j
                WHERE j.state = 5 AND j.crashes = 0 AND j.queue = q.value AND j.task = t.value
                  AND NOT EXISTS (SELECT 1 FROM coserver_queue p WHERE p.name = q.value AND p.paused_at IS NOT NULL))
 LIMIT 50
