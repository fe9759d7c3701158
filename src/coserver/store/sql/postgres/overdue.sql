-- Jobs that have not begun by their time.
SELECT id FROM coserver_job
 WHERE begin_by <= %(now)s::bigint AND @may_expire
 ORDER BY begin_by LIMIT %(limit)s::integer
   FOR UPDATE SKIP LOCKED
