-- Words to find jobs by. `told` is a JSON array of [tag, job].
INSERT INTO coserver_tag (tag, job)
SELECT json_extract(o.value, '$[0]'), json_extract(o.value, '$[1]') FROM json_each(:told) o WHERE true
ON CONFLICT DO NOTHING
