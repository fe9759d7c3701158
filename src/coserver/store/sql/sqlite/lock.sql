-- The living among these jobs as they are now. PostgreSQL locks their rows, in the order of ids.
SELECT id, state, flags, waits, claim, worker, claimed_at, attempt, crashes, CAST(queue AS BLOB),
       coalesce(max_crashes, (SELECT max_crashes FROM coserver_task WHERE name = task), 3)
  FROM coserver_job WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id
