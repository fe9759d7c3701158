-- `notify` inside a transaction of somebody else, whose settings stay as they are. Its commit tells the workers.
SELECT pg_notify('coserver', '')
 WHERE EXISTS (SELECT 1 FROM coserver_worker WHERE parked = 1 AND state = 0)
