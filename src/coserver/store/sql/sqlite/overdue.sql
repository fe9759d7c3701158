-- Jobs that have not begun by their time.
SELECT id FROM coserver_job
 WHERE begin_by > 0 AND begin_by <= :now AND begin_by IS NOT NULL AND state < 6 AND attempt = 0 AND crashes = 0
 ORDER BY begin_by LIMIT :limit
