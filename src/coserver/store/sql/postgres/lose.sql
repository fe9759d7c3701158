-- Jobs that workers keep dying on end as lost, with what is known of the last death.
WITH gone AS (
    DELETE FROM coserver_job j
     USING unnest(%(ids)s::bigint[], %(errors)s::text[]) AS o (id, error)
     WHERE j.id = ANY (ARRAY[o.id]) AND j.state + 0 = 6
    RETURNING j.*, o.error AS why
), counted AS (
    INSERT INTO coserver_count (worker, queue, state, n)
    SELECT 0, queue, 14, count(*) FROM gone GROUP BY queue ORDER BY queue
    ON CONFLICT (worker, queue, state) DO UPDATE SET n = coserver_count.n + excluded.n
)
INSERT INTO coserver_done (id, worker, created_at, run_at, started_at, finished_at, claim, attempt, crashes,
                           max_crashes, state, priority, queue, task, args, options, result, error)
SELECT id, worker, created_at, run_at, claimed_at, (date_part('epoch', clock_timestamp()) * 1000000)::bigint, claim,
       attempt, crashes + 1, max_crashes, 14, priority, queue, task, args, options, NULL, why
  FROM gone
