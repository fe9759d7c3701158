-- Store new jobs, all but those whose unique key a living job has. `jobs` is a JSON array of [id, state, priority, flags,
-- run_at, begin_by, queue, task, args, options, max_crashes, unique_key, limit_key]. `insert` is the fast way for jobs
-- that need none of this.
INSERT INTO coserver_job (id, state, priority, flags, run_at, begin_by, queue, task, args, options, max_crashes,
                          unique_key, limit_key, created_at)
SELECT json_extract(o.value, '$[0]'), json_extract(o.value, '$[1]'), json_extract(o.value, '$[2]'),
       json_extract(o.value, '$[3]'), json_extract(o.value, '$[4]'), json_extract(o.value, '$[5]'),
       json_extract(o.value, '$[6]'), json_extract(o.value, '$[7]'), json_extract(o.value, '$[8]'),
       json_extract(o.value, '$[9]'), json_extract(o.value, '$[10]'), json_extract(o.value, '$[11]'),
       json_extract(o.value, '$[12]'), :now
  FROM json_each(:jobs) o WHERE true
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id
