-- At which of these limits somebody still waits.
SELECT k.key FROM unnest(%(keys)s::text[]) AS k (key)
 WHERE EXISTS (SELECT 1 FROM coserver_job w WHERE w.state = 3 AND w.blocked_on = k.key)
