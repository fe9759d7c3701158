-- These jobs hold slots from now on.
UPDATE coserver_job SET flags = flags | 4 WHERE id IN (SELECT value FROM json_each(:ids))
