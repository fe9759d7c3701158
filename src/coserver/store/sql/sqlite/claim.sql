-- Give the chosen jobs to the worker.
UPDATE coserver_job SET state = 6, worker = :worker, claim = claim + 1, claimed_at = :now
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 5
RETURNING id, claim, task, queue,
          coalesce(args, (SELECT data FROM coserver_blob WHERE job = id AND kind = 0), 'null'),
          attempt, crashes, priority, created_at, options, seq
