-- Scheduled jobs whose time has come, in its order.
SELECT id FROM coserver_job WHERE state = 4 AND run_at <= :now ORDER BY run_at, id LIMIT :limit
