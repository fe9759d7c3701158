-- Scheduled jobs whose time has come, in its order, each with the limit that it comes to wait at.
SELECT id, coalesce(limit_key, (SELECT l.name FROM coserver_limit l WHERE l.name = 'queue:' || j.queue))
  FROM coserver_job j WHERE state = 4 AND run_at <= :now ORDER BY run_at, id LIMIT :limit
