-- A job that workers keep dying on ends as lost, with what is known of the last death.
INSERT INTO coserver_done (
    id, state, priority, worker, claim, attempt, crashes, max_crashes, created_at, run_at,
    started_at, finished_at, queue, task, args, options, result, error)
SELECT id, 14, priority, worker, claim, attempt, crashes + 1, max_crashes, created_at, run_at,
       claimed_at, ?1, queue, task, args, options, NULL, ?2
  FROM coserver_job WHERE id = ?3 AND state = 6
