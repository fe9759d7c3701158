-- Remove the rows that `finish` has copied.
DELETE FROM coserver_job WHERE id IN (SELECT value FROM json_each(:ids)) AND worker = :worker AND state = 6
