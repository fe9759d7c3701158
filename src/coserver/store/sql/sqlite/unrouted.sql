-- New rows from plain SQL whose task some worker has made known. What is certainly too large is not even read.
SELECT j.id, coalesce(j.queue, t.queue), j.priority, j.run_at,
       CASE WHEN length(j.args) <= :cap THEN j.args END, j.args IS NULL
  FROM coserver_task t CROSS JOIN coserver_job j INDEXED BY coserver_job_new ON j.task = t.name AND j.state = 0
 LIMIT :limit
