-- The worker is about to sleep.
UPDATE coserver_worker SET parked = 1 WHERE id = :worker AND state = 0 RETURNING queues, tasks
