-- Of jobs that are forgotten: their large parts.
DELETE FROM coserver_blob WHERE job = ANY (%(ids)s::bigint[])
