-- Put a finished job back into its line with a fresh budget; one that was refused when routed starts as new. The claim
-- number goes on, so that a finish from its former life fits nothing.
INSERT INTO coserver_job (
    id, state, priority, seq, claim, max_crashes, created_at, queue, task, args, options)
SELECT id, CASE WHEN claim = 0 THEN 0 ELSE 5 END, priority, ?1, claim, max_crashes, created_at, queue, task, args, options
  FROM coserver_done WHERE id = ?2
