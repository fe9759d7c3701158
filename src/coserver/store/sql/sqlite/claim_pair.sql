-- Give the first jobs of one (queue, task) to the worker: `best` and `claim` in one, for workers with one pair.
UPDATE coserver_job SET state = 6, worker = :worker, claim = claim + 1, claimed_at = :now
 WHERE id IN (SELECT id FROM coserver_job INDEXED BY coserver_job_ready
               WHERE state = 5 AND crashes = 0 AND queue = :queue AND task = :task
               ORDER BY priority, seq LIMIT :limit)
RETURNING id, claim, task, queue,
          coalesce(args, (SELECT data FROM coserver_blob WHERE job = id AND kind = 0), 'null'),
          attempt, crashes, priority, created_at, options, seq
