-- Raise a flag on the living among these jobs.
UPDATE coserver_job SET flags = flags | :flag WHERE id IN (SELECT value FROM json_each(:ids)) RETURNING id
