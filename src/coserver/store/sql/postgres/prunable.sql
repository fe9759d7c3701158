-- Finished jobs of one state past their retention.
SELECT id FROM coserver_done
 WHERE state = %(state)s::smallint AND finished_at < %(before)s::bigint
 ORDER BY finished_at LIMIT %(limit)s::integer
   FOR UPDATE SKIP LOCKED
