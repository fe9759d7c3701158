-- Of jobs that are forgotten: how their parents ended.
DELETE FROM coserver_dep WHERE child IN (SELECT value FROM json_each(:ids))
