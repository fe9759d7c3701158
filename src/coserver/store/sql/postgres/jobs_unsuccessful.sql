-- `jobs` for ended ones that did not succeed: by an index of their own, however many did.
SELECT d.id, d.task, d.queue, d.state, d.priority, d.args, d.attempt, d.crashes, d.created_at, d.run_at,
       d.started_at, d.finished_at, (SELECT process FROM coserver_worker w WHERE w.id = d.worker), d.result, d.error
  FROM coserver_done d
 WHERE d.id < coalesce(%(before)s::bigint, 9223372036854775807)
   AND d.state > 10
   AND d.state = ANY (%(states)s::smallint[])
   AND (%(queue)s::text IS NULL OR d.queue = %(queue)s::text)
   AND (%(task)s::text IS NULL OR d.task = %(task)s::text)
   AND (%(since)s::bigint IS NULL OR d.created_at >= %(since)s::bigint)
   AND (%(until)s::bigint IS NULL OR d.created_at < %(until)s::bigint)
   AND (%(error)s::text IS NULL
        OR strpos(lower(d.error COLLATE "C"), lower(%(error)s::text COLLATE "C")) > 0)
   AND (%(args)s::text IS NULL
        OR strpos(lower(coalesce(
               d.args, (SELECT b.data FROM coserver_blob b WHERE b.job = d.id AND b.kind = 0)) COLLATE "C"),
                  lower(%(args)s::text COLLATE "C")) > 0)
 ORDER BY d.id DESC LIMIT %(limit)s::integer
