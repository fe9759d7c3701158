-- Charge failed attempts and schedule the jobs anew. `told` is a JSON array of [id, run_at, error]; run_at NULL: at once,
-- for `limits.enter` to go on.
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS id, (o.value->>1)::bigint AS run_at, o.value->>2 AS error
      FROM json_array_elements(%(told)s::json) AS o (value)
)
UPDATE coserver_job j
   SET state = 4, run_at = coalesce(o.run_at, j.run_at), seq = NULL, attempt = j.attempt + 1, error = o.error,
       worker = NULL, claimed_at = NULL
  FROM told o WHERE j.id = ANY (ARRAY[o.id])
