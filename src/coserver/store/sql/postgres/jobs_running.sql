-- `jobs` for running ones only: by the index of what is in flight, however long the backlog.
SELECT j.id, j.task, j.queue, j.state, j.priority, j.args, j.attempt, j.crashes, j.created_at, j.run_at,
       j.claimed_at, NULL::bigint, (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL::text, j.error
  FROM (SELECT * FROM coserver_job WHERE state = 6 OFFSET 0) j
 WHERE j.id < coalesce(%(before)s::bigint, 9223372036854775807)
   AND (%(queue)s::text IS NULL OR j.queue = %(queue)s::text)
   AND (%(task)s::text IS NULL OR j.task = %(task)s::text)
   AND (%(since)s::bigint IS NULL OR j.created_at >= %(since)s::bigint)
   AND (%(until)s::bigint IS NULL OR j.created_at < %(until)s::bigint)
   AND (%(error)s::text IS NULL
        OR strpos(lower(j.error COLLATE "C"), lower(%(error)s::text COLLATE "C")) > 0)
   AND (%(args)s::text IS NULL
        OR strpos(lower(coalesce(
               j.args, (SELECT b.data FROM coserver_blob b WHERE b.job = j.id AND b.kind = 0)) COLLATE "C"),
                  lower(%(args)s::text COLLATE "C")) > 0)
 ORDER BY j.id DESC LIMIT %(limit)s::integer
