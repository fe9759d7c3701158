-- Of jobs that are forgotten: how their parents ended.
DELETE FROM coserver_dep WHERE child = ANY (%(ids)s::bigint[])
