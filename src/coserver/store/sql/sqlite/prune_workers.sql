-- Forget incarnations that ended long ago.
DELETE FROM coserver_worker
 WHERE id IN (SELECT id FROM coserver_worker WHERE state = 2 AND ended_at < :before ORDER BY ended_at LIMIT :limit)
