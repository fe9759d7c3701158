-- `jobs` by a part of the error: what succeeded has none, so of the ended ones only the others are read.
SELECT * FROM (
    SELECT j.id, j.task, j.queue, j.state, j.priority, j.args, j.attempt, j.crashes, j.created_at, j.run_at,
           j.claimed_at, NULL::bigint, (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL::text, j.error
      FROM coserver_job j
     WHERE j.id < coalesce(%(before)s::bigint, 9223372036854775807)
       AND (%(states)s::smallint[] IS NULL OR j.state = ANY (%(states)s::smallint[]))
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
     ORDER BY j.id DESC LIMIT %(limit)s::integer) AS part
UNION ALL
SELECT * FROM (
    SELECT d.id, d.task, d.queue, d.state, d.priority, d.args, d.attempt, d.crashes, d.created_at, d.run_at,
           d.started_at, d.finished_at, (SELECT process FROM coserver_worker w WHERE w.id = d.worker), d.result, d.error
      FROM coserver_done d
     WHERE d.id < coalesce(%(before)s::bigint, 9223372036854775807)
       AND d.state > 10
       AND (%(states)s::smallint[] IS NULL OR d.state = ANY (%(states)s::smallint[]))
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
     ORDER BY d.id DESC LIMIT %(limit)s::integer) AS part
ORDER BY 1 DESC LIMIT %(limit)s::integer
