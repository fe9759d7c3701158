-- The first of one (queue, task) among the jobs that have killed workers.
SELECT priority, seq, id FROM coserver_job INDEXED BY coserver_job_suspect
 WHERE state = 5 AND crashes > 0 AND queue = ?1 AND task = ?2
 ORDER BY priority, seq LIMIT 1
