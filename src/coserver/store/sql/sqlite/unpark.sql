-- The worker is awake.
UPDATE coserver_worker SET parked = 0 WHERE id = :worker
