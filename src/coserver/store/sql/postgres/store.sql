-- Store new jobs, all but those whose unique key a living job has. `jobs` is a JSON array of [id, state, priority, flags,
-- run_at, begin_by, queue, task, args, options, max_crashes, unique_key, limit_key], in the order of unique keys, because
-- who finds one just being stored waits for it. `insert` is the fast way for jobs that need none of this.
INSERT INTO coserver_job (id, state, priority, flags, run_at, begin_by, queue, task, args, options, max_crashes,
                          unique_key, limit_key, created_at)
SELECT (o.value->>0)::bigint, (o.value->>1)::smallint, (o.value->>2)::smallint, (o.value->>3)::integer,
       (o.value->>4)::bigint, (o.value->>5)::bigint, o.value->>6, o.value->>7, o.value->>8, o.value->>9,
       (o.value->>10)::integer, o.value->>11, o.value->>12, %(now)s::bigint
  FROM json_array_elements(%(jobs)s::json) WITH ORDINALITY AS o (value, n)
 ORDER BY o.n
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id
