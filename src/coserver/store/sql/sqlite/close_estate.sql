-- Nothing is left of a dead worker.
UPDATE coserver_worker SET state = 2 WHERE id = :worker AND state = 1
