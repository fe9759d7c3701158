-- Large texts beside their jobs. `told` is a JSON array of [job, kind, data].
INSERT INTO coserver_blob (job, kind, data)
SELECT (o.value->>0)::bigint, (o.value->>1)::smallint, o.value->>2
  FROM json_array_elements(%(told)s::json) AS o (value)
ON CONFLICT (job, kind) DO UPDATE SET data = excluded.data
