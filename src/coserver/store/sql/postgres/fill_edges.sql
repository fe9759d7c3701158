-- Write the ends of parents on the edges to their children. `told` is a JSON array of [parent, state, result, error].
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS parent, (o.value->>1)::smallint AS state, o.value->>2 AS result, o.value->>3 AS error
      FROM json_array_elements(%(told)s::json) AS o (value)
)
UPDATE coserver_dep d SET state = o.state, result = o.result, error = o.error
  FROM told o WHERE d.parent = ANY (ARRAY[o.parent]) AND d.state IS NULL
RETURNING d.child, d.parent, d.on_end, d.state
