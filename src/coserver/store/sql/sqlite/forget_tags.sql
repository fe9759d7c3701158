-- Of jobs that are forgotten: their tags.
DELETE FROM coserver_tag WHERE job IN (SELECT value FROM json_each(:ids))
