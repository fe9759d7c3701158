-- The keys at which jobs wait.
SELECT DISTINCT blocked_on FROM coserver_job WHERE state = 3 AND blocked_on IS NOT NULL
