-- For how many parents children still wait. `told` is a JSON array of [id, waits].
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS id, (o.value->>1)::integer AS waits
      FROM json_array_elements(%(told)s::json) AS o (value)
)
UPDATE coserver_job j SET waits = o.waits FROM told o WHERE j.id = ANY (ARRAY[o.id])
