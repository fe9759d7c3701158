-- A page of jobs by descending id, without the large parts. A NULL filter restricts nothing.
SELECT * FROM (
    SELECT j.id, j.task, j.queue, j.state, j.priority, j.args, j.attempt, j.crashes, j.created_at, j.run_at,
           j.claimed_at, NULL, (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL, j.error
      FROM coserver_job j
     WHERE j.id < coalesce(:before, 9223372036854775807)
       AND (:states IS NULL OR j.state IN (SELECT value FROM json_each(:states)))
       AND (:queue IS NULL OR j.queue = :queue) AND (:task IS NULL OR j.task = :task)
     ORDER BY j.id DESC LIMIT :limit)
UNION ALL
SELECT * FROM (
    SELECT d.id, d.task, d.queue, d.state, d.priority, d.args, d.attempt, d.crashes, d.created_at, d.run_at,
           d.started_at, d.finished_at, (SELECT process FROM coserver_worker w WHERE w.id = d.worker), d.result, d.error
      FROM coserver_done d
     WHERE d.id < coalesce(:before, 9223372036854775807)
       AND (:states IS NULL OR d.state IN (SELECT value FROM json_each(:states)))
       AND (:queue IS NULL OR d.queue = :queue) AND (:task IS NULL OR d.task = :task)
     ORDER BY d.id DESC LIMIT :limit)
ORDER BY 1 DESC LIMIT :limit
