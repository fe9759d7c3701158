-- New rows from plain SQL whose task some worker has made known. What is certainly too large is not even read.
SELECT j.id, j.queue, t.queue, j.priority, j.run_at,
       CASE WHEN octet_length(j.args) <= %(cap)s::bigint THEN j.args END, j.args IS NULL, j.options, j.unique_key, j.limit_key
  FROM coserver_task t
 CROSS JOIN LATERAL (SELECT * FROM coserver_job n WHERE n.task = t.name AND n.state = 0
                      LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED) j
 LIMIT %(limit)s::integer
