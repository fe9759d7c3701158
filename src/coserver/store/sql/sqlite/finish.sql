-- Copy one running job to the finished ones, if the fence fits. The row itself goes by `finish_remove`.
INSERT INTO coserver_done (
    id, state, priority, worker, claim, attempt, crashes, max_crashes, created_at, run_at,
    started_at, finished_at, queue, task, args, options, result, error)
SELECT id, ?1, priority, worker, claim, attempt, crashes, max_crashes, created_at, run_at,
       ?2, ?3, queue, task, args, options, ?4, ?5
  FROM coserver_job
 WHERE id = ?6 AND claim = ?7 AND worker = ?8 AND state = 6 AND flags = 0
