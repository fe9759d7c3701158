-- Write on edges how their parents ended, or that they have not. `told` is a JSON array of
-- [child, place, state, result, error].
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS child, (o.value->>1)::integer AS place, (o.value->>2)::smallint AS state,
           o.value->>3 AS result, o.value->>4 AS error
      FROM json_array_elements(%(told)s::json) AS o (value)
)
UPDATE coserver_dep d SET state = o.state, result = o.result, error = o.error
  FROM told o WHERE d.child = ANY (ARRAY[o.child]) AND d.place = ANY (ARRAY[o.place])
