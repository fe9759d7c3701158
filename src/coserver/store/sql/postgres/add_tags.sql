-- Words to find jobs by. `told` is a JSON array of [tag, job].
INSERT INTO coserver_tag (tag, job)
SELECT o.value->>0, (o.value->>1)::bigint FROM json_array_elements(%(told)s::json) AS o (value)
ON CONFLICT DO NOTHING
