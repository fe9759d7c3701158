-- New rows that can never run end as failed, visibly.
WITH gone AS (
    DELETE FROM coserver_job j
     USING unnest(%(ids)s::bigint[], %(errors)s::text[]) AS o (id, error)
     WHERE j.id = ANY (ARRAY[o.id]) AND j.state + 0 = 0
    RETURNING j.*, o.error AS why
), counted AS (
    INSERT INTO coserver_count (worker, queue, state, n)
    SELECT 0, coalesce(queue, ''), 11, count(*) FROM gone GROUP BY coalesce(queue, '') ORDER BY 2
    ON CONFLICT (worker, queue, state) DO UPDATE SET n = coserver_count.n + excluded.n
)
INSERT INTO coserver_done (id, worker, created_at, run_at, started_at, finished_at, claim, attempt, crashes,
                           max_crashes, state, priority, queue, task, args, options, result, error)
SELECT id, NULL, created_at, run_at, NULL, (date_part('epoch', clock_timestamp()) * 1000000)::bigint, claim, attempt,
       crashes, max_crashes, 11, priority, queue, task, args, options, NULL, why
  FROM gone
