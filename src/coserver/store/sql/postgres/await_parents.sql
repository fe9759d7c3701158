-- Jobs released while their parents have not ended: they wait.
UPDATE coserver_job j SET state = 2 WHERE j.id = ANY (%(ids)s::bigint[]) AND j.state + 0 = 1
