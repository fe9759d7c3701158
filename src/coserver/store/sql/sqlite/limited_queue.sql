-- Is any of these queues under a limit?
SELECT EXISTS (SELECT 1 FROM coserver_limit WHERE name IN (SELECT 'queue:' || value FROM json_each(:queues)))
