-- Jobs that are unique only until they start have started.
UPDATE coserver_job SET unique_key = NULL, flags = flags & ~8 WHERE id IN (SELECT value FROM json_each(:ids))
