-- Copy jobs, whatever they were doing, to the finished ones; `remove` takes the rows away. Their rows are locked. `told`
-- is a JSON array of [id, state, started_at, finished_at, result, error, crashes to charge]. Who waits for ends is told.
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS id, (o.value->>1)::smallint AS state, (o.value->>2)::bigint AS started_at,
           (o.value->>3)::bigint AS finished_at, o.value->>4 AS result, o.value->>5 AS error,
           (o.value->>6)::integer AS charge
      FROM json_array_elements(%(told)s::json) AS o (value)
), kept AS (
    INSERT INTO coserver_done (
        id, state, priority, worker, claim, attempt, crashes, max_crashes, created_at, run_at,
        started_at, finished_at, queue, task, args, options, result, error, unique_key, limit_key, flags)
    SELECT j.id, o.state, j.priority, j.worker, j.claim, j.attempt, j.crashes + o.charge, j.max_crashes, j.created_at,
           j.run_at, o.started_at, o.finished_at, j.queue, j.task, j.args, j.options, o.result, o.error, j.unique_key,
           j.limit_key, (j.flags & 8) | CASE WHEN j.state = 0 THEN 16 ELSE 0 END
      FROM told o, coserver_job j WHERE j.id = ANY (ARRAY[o.id])
    RETURNING id
)
SELECT CASE WHEN EXISTS (SELECT 1 FROM kept)
             AND (SELECT value::bigint FROM coserver_meta WHERE key = 'awaited') > date_part('epoch', now()) * 1000000
            THEN pg_notify('coserver_ends', '')::text END
