-- All of one job, living or finished, its large parts included. Text as bytes: plain SQL may have put in what is not
-- UTF-8, and it is to be shown all the same.
SELECT j.id, CAST(j.task AS BLOB), CAST(j.queue AS BLOB), j.state, j.priority,
       CAST(coalesce(j.args, (SELECT data FROM coserver_blob WHERE job = j.id AND kind = 0)) AS BLOB),
       j.attempt, j.crashes, j.created_at, j.run_at, j.claimed_at, NULL,
       (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL, CAST(j.error AS BLOB)
  FROM coserver_job j
 WHERE j.id = :id
UNION ALL
SELECT d.id, CAST(d.task AS BLOB), CAST(d.queue AS BLOB), d.state, d.priority,
       CAST(coalesce(d.args, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 0)) AS BLOB),
       d.attempt, d.crashes, d.created_at, d.run_at, d.started_at, d.finished_at,
       (SELECT process FROM coserver_worker w WHERE w.id = d.worker),
       CAST(coalesce(d.result, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 1)) AS BLOB),
       CAST(d.error AS BLOB)
  FROM coserver_done d
 WHERE d.id = :id
