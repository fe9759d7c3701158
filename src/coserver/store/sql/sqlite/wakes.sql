-- The sockets of these workers.
SELECT wake FROM coserver_worker WHERE id IN (SELECT value FROM json_each(:workers)) AND state = 0 AND wake IS NOT NULL
