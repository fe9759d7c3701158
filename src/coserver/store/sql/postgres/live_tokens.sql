-- Live workers that belong to a node.
SELECT id, token FROM coserver_worker WHERE state = 0 AND token IS NOT NULL ORDER BY id
