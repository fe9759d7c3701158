-- `jobs` for running ones only: by the index of what is in flight, however long the backlog.
SELECT j.id, j.task, j.queue, j.state, j.priority, j.args, j.attempt, j.crashes, j.created_at, j.run_at,
       j.claimed_at, NULL::bigint, (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL::text, j.error
  FROM (SELECT * FROM coserver_job WHERE state = 6 OFFSET 0) j
 WHERE j.id < coalesce(%(before)s::bigint, 9223372036854775807)
   AND (%(queue)s::text IS NULL OR j.queue = %(queue)s::text) AND (%(task)s::text IS NULL OR j.task = %(task)s::text)
 ORDER BY j.id DESC LIMIT %(limit)s::integer
