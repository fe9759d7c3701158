-- The large parts of `prune`.
DELETE FROM coserver_blob WHERE job IN (SELECT value FROM json_each(:ids))
