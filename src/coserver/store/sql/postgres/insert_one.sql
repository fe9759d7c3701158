-- Store one new job whose queue is known and whose arguments are small: `insert` without its arrays, because most
-- submits are of this kind.
WITH stored AS (
INSERT INTO coserver_job (state, seq, task, args, options, priority, max_crashes, queue, created_at, run_at, blocked_on)
SELECT CASE WHEN o.run_at > o.now THEN 4 WHEN o.key IS NOT NULL THEN 3 ELSE 5 END,
       CASE WHEN o.run_at > o.now THEN NULL ELSE nextval('coserver_seq') END,
       %(task)s::text, %(args)s::text, %(options)s::text, %(priority)s::smallint, %(max_crashes)s::integer,
       %(queue)s::text, o.now, CASE WHEN o.run_at > o.now THEN o.run_at END,
       CASE WHEN o.run_at > o.now THEN NULL ELSE o.key END
  FROM (SELECT n.now, coalesce(%(run_at)s::bigint, n.now + %(delay)s::bigint) AS run_at,
               (SELECT l.name FROM coserver_limit l WHERE l.name = 'queue:' || %(queue)s::text) AS key
          FROM (SELECT (date_part('epoch', statement_timestamp()) * 1000000)::bigint AS now) n) o
RETURNING id, blocked_on
), gates AS (
    INSERT INTO coserver_gate (key, at) SELECT blocked_on, 0 FROM stored WHERE blocked_on IS NOT NULL
)
SELECT id, (blocked_on IS NOT NULL)::integer FROM stored
