-- Who is next at a limit. One whose row another transaction holds is passed over, and looked at again soon.
SELECT id, queue FROM coserver_job
 WHERE state = 3 AND blocked_on = %(key)s::text ORDER BY priority, seq LIMIT %(limit)s::integer
   FOR UPDATE SKIP LOCKED
