-- Keep how far running jobs say they are, where the fence fits. `told` is a JSON array of [id, claim, fraction, note]. The
-- commit need not wait for the disk.
WITH told AS MATERIALIZED (
    SELECT (o.value->>0)::bigint AS id, (o.value->>1)::integer AS claim, (o.value->>2)::double precision AS fraction,
           o.value->>3 AS note
      FROM json_array_elements(%(told)s::json) AS o (value)
)
INSERT INTO coserver_progress (job, claim, fraction, note, at)
SELECT j.id, j.claim, o.fraction, o.note, (date_part('epoch', clock_timestamp()) * 1000000)::bigint
  FROM told o, coserver_job j
 WHERE j.id = ANY (ARRAY[o.id]) AND j.claim = o.claim AND j.worker = %(worker)s::bigint AND j.state + 0 = 6
ON CONFLICT (job) DO UPDATE SET claim = excluded.claim, fraction = excluded.fraction, note = excluded.note, at = excluded.at
RETURNING set_config('synchronous_commit', 'off', true)
