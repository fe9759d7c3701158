-- Write the ends of parents on the edges to their children. `told` is a JSON array of [parent, state, result, error].
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS parent, (o.value->>1)::smallint AS state, o.value->>2 AS result, o.value->>3 AS error
      FROM json_array_elements(%(told)s::json) AS o (value)
), edges AS MATERIALIZED (
    SELECT e.child, e.place, o.state, o.result, o.error
      FROM told o, LATERAL (
           SELECT d.child, d.place FROM coserver_dep d WHERE d.parent = o.parent AND d.state IS NULL OFFSET 0) e
)
UPDATE coserver_dep d SET state = e.state, result = e.result, error = e.error
  FROM edges e WHERE d.child = ANY (ARRAY[e.child]) AND d.place = ANY (ARRAY[e.place])
RETURNING d.child, d.parent, d.on_end, d.state
