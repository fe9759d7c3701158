-- Charge running jobs with a crash; they go back to their old places.
UPDATE coserver_job j SET state = 5, worker = NULL, claimed_at = NULL, crashes = j.crashes + 1
 WHERE j.id = ANY (%(ids)s::bigint[]) AND j.state + 0 = 6
