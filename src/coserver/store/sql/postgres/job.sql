-- All of one job, living or finished, its large parts included.
SELECT j.id, j.task, j.queue, j.state, j.priority,
       coalesce(j.args, (SELECT data FROM coserver_blob WHERE job = j.id AND kind = 0)),
       j.attempt, j.crashes, j.created_at, j.run_at, j.claimed_at, NULL::bigint,
       (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL::text, j.error
  FROM coserver_job j
 WHERE j.id = %(id)s::bigint
UNION ALL
SELECT d.id, d.task, d.queue, d.state, d.priority,
       coalesce(d.args, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 0)),
       d.attempt, d.crashes, d.created_at, d.run_at, d.started_at, d.finished_at,
       (SELECT process FROM coserver_worker w WHERE w.id = d.worker),
       coalesce(d.result, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 1)), d.error
  FROM coserver_done d
 WHERE d.id = %(id)s::bigint
