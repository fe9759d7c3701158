-- Hand back everything that a leaving worker still holds, but what somebody asks to cancel at this very moment: that is
-- left in its estate.
UPDATE coserver_job SET state = 5, worker = NULL, claimed_at = NULL
 WHERE worker = %(worker)s::bigint AND state = 6 AND flags & 1 = 0
RETURNING id
