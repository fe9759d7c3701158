-- Large texts beside their jobs. `told` is a JSON array of [job, kind, data].
INSERT INTO coserver_blob (job, kind, data)
SELECT json_extract(o.value, '$[0]'), json_extract(o.value, '$[1]'), json_extract(o.value, '$[2]')
  FROM json_each(:told) o WHERE true
ON CONFLICT (job, kind) DO UPDATE SET data = excluded.data
