-- Put finished jobs that did not succeed back into their lines with a fresh budget; those refused when routed start as
-- new. The claim number goes on, so that a finish from a former life fits nothing.
WITH gone AS (
    DELETE FROM coserver_done WHERE id = ANY (%(ids)s::bigint[]) AND state > 10 RETURNING *
), counted AS (
    INSERT INTO coserver_count (worker, queue, state, n)
    SELECT 0, coalesce(queue, ''), state, -count(*) FROM gone GROUP BY coalesce(queue, ''), state ORDER BY 2, 3
    ON CONFLICT (worker, queue, state) DO UPDATE SET n = coserver_count.n + excluded.n
), ordered AS MATERIALIZED (
    SELECT * FROM gone ORDER BY id
)
INSERT INTO coserver_job (id, state, priority, seq, claim, max_crashes, created_at, queue, task, args, options)
SELECT id, CASE WHEN claim = 0 THEN 0 ELSE 5 END, priority, nextval('coserver_seq'), claim, max_crashes, created_at,
       queue, task, args, options
  FROM ordered
RETURNING id
