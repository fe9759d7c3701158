-- What runs under a worker.
SELECT id, claim FROM coserver_job WHERE worker = %(worker)s::bigint AND state = 6 ORDER BY id
