-- Jobs get a slot of the limit that they waited for.
INSERT INTO coserver_slot (key, job)
SELECT blocked_on, id FROM coserver_job WHERE id = ANY (%(ids)s::bigint[]) AND state + 0 = 3
ON CONFLICT DO NOTHING
