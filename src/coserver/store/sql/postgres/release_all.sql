-- Hand back everything that a leaving worker still holds.
UPDATE coserver_job SET state = 5, worker = NULL, claimed_at = NULL
 WHERE worker = %(worker)s::bigint AND state = 6
RETURNING id
