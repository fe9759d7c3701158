-- `jobs` for running ones only: by the index of what is in flight, however long the backlog.
SELECT j.id, CAST(j.task AS BLOB), CAST(j.queue AS BLOB), j.state, j.priority, CAST(j.args AS BLOB), j.attempt,
       j.crashes, j.created_at, j.run_at, j.claimed_at, NULL,
       (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL, CAST(j.error AS BLOB)
  FROM coserver_job j INDEXED BY coserver_job_running
 WHERE j.id < coalesce(:before, 9223372036854775807)
   AND j.state = 6
   AND (:queue IS NULL OR j.queue = :queue) AND (:task IS NULL OR j.task = :task)
   AND (:since IS NULL OR j.created_at >= :since) AND (:until IS NULL OR j.created_at < :until)
   AND (:error IS NULL OR instr(lower(j.error), lower(:error)) > 0)
   AND (:args IS NULL OR instr(lower(coalesce(
            j.args, (SELECT data FROM coserver_blob WHERE job = j.id AND kind = 0))), lower(:args)) > 0)
 ORDER BY j.id DESC LIMIT :limit
