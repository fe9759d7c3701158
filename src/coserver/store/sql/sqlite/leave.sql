-- The incarnation ends in order.
UPDATE coserver_worker SET state = 2, parked = 0, ended_at = :now WHERE id = :worker AND state = 0 RETURNING id
