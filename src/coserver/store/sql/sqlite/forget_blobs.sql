-- Of jobs that are forgotten: their large parts.
DELETE FROM coserver_blob WHERE job IN (SELECT value FROM json_each(:ids))
