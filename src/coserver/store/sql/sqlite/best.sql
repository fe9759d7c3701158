-- The first of one (queue, task) in line, read from the ready index alone.
SELECT priority, seq, id FROM coserver_job INDEXED BY coserver_job_ready
 WHERE state = 5 AND crashes = 0 AND queue = ?1 AND task = ?2
 ORDER BY priority, seq LIMIT ?3
