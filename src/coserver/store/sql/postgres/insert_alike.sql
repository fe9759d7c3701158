-- Store new jobs that are alike but for their arguments, one or many: `insert` with one array instead of nine. Returns
-- the ids, which grow in the order of `args`, each with whether a limit rules the jobs' queue.
WITH one AS MATERIALIZED (
    SELECT n.now, n.queue, CASE WHEN n.run_at > n.now THEN n.run_at END AS run_at,
           CASE WHEN n.run_at > n.now THEN NULL
                ELSE (SELECT l.name FROM coserver_limit l WHERE l.name = 'queue:' || n.queue) END AS key
      FROM (SELECT m.now, coalesce(%(run_at)s::bigint, m.now + %(delay)s::bigint) AS run_at,
                   coalesce(%(queue)s::text, (SELECT t.queue FROM coserver_task t WHERE t.name = %(task)s::text)) AS queue
              FROM (SELECT (date_part('epoch', statement_timestamp()) * 1000000)::bigint AS now) m) n
), gates AS (
    INSERT INTO coserver_gate (key, at) SELECT key, 0 FROM one WHERE key IS NOT NULL
)
INSERT INTO coserver_job (state, seq, task, args, options, priority, max_crashes, queue, created_at, run_at, blocked_on)
SELECT CASE WHEN o.queue IS NULL THEN 0 WHEN o.run_at IS NOT NULL THEN 4 WHEN o.key IS NOT NULL THEN 3 ELSE 5 END,
       CASE WHEN o.queue IS NULL OR o.run_at IS NOT NULL THEN NULL ELSE nextval('coserver_seq') END,
       %(task)s::text, a.args, %(options)s::text, %(priority)s::smallint, %(max_crashes)s::integer, o.queue, o.now,
       o.run_at, o.key
  FROM unnest(%(args)s::text[]) AS a (args) CROSS JOIN one o
RETURNING id, (blocked_on IS NOT NULL)::integer
