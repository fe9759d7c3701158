-- Rouse whoever listens, but only if some worker is parked: a notification takes a lock at commit. The disk need not
-- have it.
SELECT pg_notify('coserver', ''), set_config('synchronous_commit', 'off', true)
 WHERE EXISTS (SELECT 1 FROM coserver_worker WHERE parked = 1 AND state = 0)
