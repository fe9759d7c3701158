-- Edges of the graph. `told` is a JSON array of [child, place, parent, on_end, state, result, error]; a NULL place is the
-- next one of its child.
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS child, (o.value->>1)::integer AS place, (o.value->>2)::bigint AS parent,
           (o.value->>3)::smallint AS on_end, (o.value->>4)::smallint AS state, o.value->>5 AS result, o.value->>6 AS error
      FROM json_array_elements(%(told)s::json) AS o (value)
)
INSERT INTO coserver_dep (child, place, parent, on_end, state, result, error)
SELECT o.child,
       coalesce(o.place, (SELECT coalesce(max(d.place), -1) + 1 FROM coserver_dep d WHERE d.child = o.child)),
       o.parent, o.on_end, o.state, o.result, o.error
  FROM told o
