-- `jobs` for ended ones that did not succeed: by an index of their own, however many did.
SELECT d.id, d.task, d.queue, d.state, d.priority, d.args, d.attempt, d.crashes, d.created_at, d.run_at,
       d.started_at, d.finished_at, (SELECT process FROM coserver_worker w WHERE w.id = d.worker), d.result, d.error
  FROM coserver_done d
 WHERE d.id < coalesce(%(before)s::bigint, 9223372036854775807)
   AND d.state > 10
   AND d.state = ANY (%(states)s::smallint[])
   AND (%(queue)s::text IS NULL OR d.queue = %(queue)s::text) AND (%(task)s::text IS NULL OR d.task = %(task)s::text)
 ORDER BY d.id DESC LIMIT %(limit)s::integer
