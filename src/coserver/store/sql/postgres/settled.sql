-- Which of these jobs are finished, and under which claim.
SELECT id, claim, state FROM coserver_done WHERE id = ANY (%(ids)s::bigint[])
