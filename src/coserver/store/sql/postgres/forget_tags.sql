-- Of jobs that are forgotten: their tags.
DELETE FROM coserver_tag WHERE job = ANY (%(ids)s::bigint[])
