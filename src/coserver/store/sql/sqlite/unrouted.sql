-- New rows from plain SQL whose task some worker has made known. What is certainly too large is not handed over. Text as
-- bytes: whether it is UTF-8 is for the router to judge.
SELECT j.id, CAST(j.queue AS BLOB), t.queue, j.priority, j.run_at,
       CASE WHEN length(CAST(j.args AS BLOB)) <= :cap THEN CAST(j.args AS BLOB) END, j.args IS NULL,
       CAST(j.options AS BLOB), CAST(j.unique_key AS BLOB), CAST(j.limit_key AS BLOB)
  FROM coserver_task t CROSS JOIN coserver_job j INDEXED BY coserver_job_new ON j.task = t.name AND j.state = 0
 LIMIT :limit
