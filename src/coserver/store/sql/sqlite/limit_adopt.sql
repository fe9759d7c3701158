-- What runs in queues whose limits are new counts towards them.
INSERT INTO coserver_slot (key, job)
SELECT l.name, j.id FROM coserver_limit l CROSS JOIN coserver_job j INDEXED BY coserver_job_running
 WHERE l.closed <> 0 AND j.state = 6 AND j.queue = substr(l.name, 7)
ON CONFLICT DO NOTHING
RETURNING job
