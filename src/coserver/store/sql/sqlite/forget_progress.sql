-- Of jobs that are forgotten: what they said of their progress.
DELETE FROM coserver_progress WHERE job IN (SELECT value FROM json_each(:ids))
