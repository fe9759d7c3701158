-- Forget finished jobs.
DELETE FROM coserver_done WHERE id IN (SELECT value FROM json_each(:ids)) RETURNING id
