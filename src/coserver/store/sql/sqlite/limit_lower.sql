-- These jobs hold no slots any more.
UPDATE coserver_job SET flags = flags & ~4 WHERE id IN (SELECT value FROM json_each(:ids)) AND flags & 4 <> 0
