-- A new row that can never run ends as failed, visibly.
INSERT INTO coserver_done (
    id, state, priority, worker, claim, attempt, crashes, max_crashes, created_at, run_at,
    started_at, finished_at, queue, task, args, options, result, error)
SELECT id, 11, priority, NULL, claim, attempt, crashes, max_crashes, created_at, run_at,
       NULL, ?1, queue, task, args, options, NULL, ?2
  FROM coserver_job WHERE id = ?3 AND state = 0
