-- Hand running jobs back as they were, slots and all, with a word on why. `told` is a JSON array of [id, error].
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS id, o.value->>1 AS error FROM json_array_elements(%(told)s::json) AS o (value)
)
UPDATE coserver_job j SET state = 5, worker = NULL, claimed_at = NULL, error = o.error
  FROM told o WHERE j.id = ANY (ARRAY[o.id]) AND j.state + 0 = 6
