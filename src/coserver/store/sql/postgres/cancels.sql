-- What a worker is asked to cancel.
SELECT id, claim FROM coserver_job WHERE worker = %(worker)s::bigint AND state = 6 AND flags & 1 <> 0 ORDER BY id
