-- Count ends. `told` is a JSON array of [worker, queue, state, n], in one order for everybody, because others wait for
-- these rows.
INSERT INTO coserver_count (worker, queue, state, n)
SELECT (o.value->>0)::bigint, o.value->>1, (o.value->>2)::smallint, (o.value->>3)::bigint
  FROM json_array_elements(%(told)s::json) AS o (value)
 ORDER BY 2, 3
ON CONFLICT (worker, queue, state) DO UPDATE SET n = coserver_count.n + excluded.n
