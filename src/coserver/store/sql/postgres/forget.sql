-- Forget finished jobs.
DELETE FROM coserver_done WHERE id = ANY (%(ids)s::bigint[]) RETURNING id
