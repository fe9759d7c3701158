-- Remove living rows that were copied to the finished ones.
DELETE FROM coserver_job WHERE id = ANY (%(ids)s::bigint[])
