-- Who is next at a limit.
SELECT id, queue FROM coserver_job INDEXED BY coserver_job_limited
 WHERE state = 3 AND blocked_on = :key ORDER BY priority, seq LIMIT :limit
