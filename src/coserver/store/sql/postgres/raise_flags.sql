-- Raise a flag on the living among these jobs, locked in the order of ids. A job whose end is under way is waited for,
-- and is not among those returned then.
UPDATE coserver_job j SET flags = j.flags | %(flag)s::integer
 WHERE j.id = ANY (ARRAY(SELECT l.id FROM coserver_job l WHERE l.id = ANY (%(ids)s::bigint[]) ORDER BY l.id FOR UPDATE))
RETURNING j.id
