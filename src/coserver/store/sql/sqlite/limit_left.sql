-- At which of these limits somebody still waits.
SELECT k.value FROM json_each(:keys) k
 WHERE EXISTS (SELECT 1 FROM coserver_job w WHERE w.state = 3 AND w.blocked_on = k.value)
