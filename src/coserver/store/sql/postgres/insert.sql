-- Store new jobs. `queue` NULL: what the task's workers say, else the row stays new. Returns the ids in order,
-- each with whether a limit rules the job's queue, so that it has to be admitted.
-- SQLite inserts row by row, because it has no arrays and no round trips.
WITH given AS MATERIALIZED (
    SELECT nextval('coserver_job_id_seq') AS id, o.n, o.task, o.args, o.large, o.options,
           o.priority, o.max_crashes,
           coalesce(o.queue, (SELECT t.queue FROM coserver_task t WHERE t.name = o.task)) AS queue,
           (date_part('epoch', statement_timestamp()) * 1000000)::bigint AS created_at,
           coalesce(o.run_at, (date_part('epoch', statement_timestamp()) * 1000000)::bigint + o.delay) AS run_at
      FROM unnest(%(tasks)s::text[], %(args)s::text[], %(larges)s::text[], %(queues)s::text[],
                  %(priorities)s::smallint[], %(run_ats)s::bigint[], %(delays)s::bigint[],
                  %(max_crashes)s::integer[], %(options)s::text[])
           WITH ORDINALITY AS o (task, args, large, queue, priority, run_at, delay, max_crashes, options, n)
), placed AS MATERIALIZED (
    SELECT g.*,
           CASE WHEN g.run_at > g.created_at THEN NULL
                WHEN g.queue = ANY (ARRAY(SELECT substr(l.name, 7) FROM coserver_limit l WHERE starts_with(l.name, 'queue:')))
                THEN 'queue:' || g.queue END AS key
      FROM given g
), stored AS (
    INSERT INTO coserver_job (id, state, seq, task, args, options, priority, max_crashes, queue, created_at, run_at,
                              blocked_on)
    SELECT g.id,
           CASE WHEN g.queue IS NULL THEN 0 WHEN g.run_at > g.created_at THEN 4 WHEN g.key IS NOT NULL THEN 3 ELSE 5 END,
           CASE WHEN g.queue IS NULL OR g.run_at > g.created_at THEN NULL ELSE nextval('coserver_seq') END,
           g.task, g.args, g.options, g.priority, g.max_crashes, g.queue, g.created_at,
           CASE WHEN g.run_at > g.created_at THEN g.run_at END, g.key
      FROM placed g
), gates AS (
    INSERT INTO coserver_gate (key, at) SELECT DISTINCT key, 0 FROM placed WHERE key IS NOT NULL
), blobs AS (
    INSERT INTO coserver_blob (job, kind, data) SELECT g.id, 0, g.large FROM given g WHERE g.large IS NOT NULL
)
SELECT g.id, (g.key IS NOT NULL)::integer FROM placed g ORDER BY g.n
