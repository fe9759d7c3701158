-- Count ends. `told` is a JSON array of [worker, queue, state, n].
INSERT INTO coserver_count (worker, queue, state, n)
SELECT json_extract(o.value, '$[0]'), json_extract(o.value, '$[1]'), json_extract(o.value, '$[2]'),
       json_extract(o.value, '$[3]')
  FROM json_each(:told) o WHERE true
ON CONFLICT (worker, queue, state) DO UPDATE SET n = n + excluded.n
