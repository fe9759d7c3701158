-- Remove the rows that `finish` has copied; return their queues for the counters.
DELETE FROM coserver_job
 WHERE id IN (SELECT value FROM json_each(:ids)) AND worker = :worker AND state = 6
RETURNING queue
