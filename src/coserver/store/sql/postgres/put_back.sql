-- Hand running jobs back as they were, slots and all.
UPDATE coserver_job j SET state = 5, worker = NULL, claimed_at = NULL
 WHERE j.id = ANY (%(ids)s::bigint[]) AND j.state + 0 = 6
