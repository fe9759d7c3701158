-- The worker is about to sleep. One that is parked already writes nothing, so that idling leaves no trace.
UPDATE coserver_worker SET parked = 1 WHERE id = :worker AND state = 0 AND parked = 0
