-- `jobs` by a tag: along its index.
SELECT * FROM (
    SELECT @living
      FROM coserver_tag t CROSS JOIN LATERAL (SELECT * FROM coserver_job f WHERE f.id = ANY (ARRAY[t.job])) j
     WHERE t.tag = %(tag)s::text AND t.job < coalesce(%(before)s::bigint, 9223372036854775807) AND @wanted
     ORDER BY t.job DESC LIMIT %(limit)s::integer) AS part
UNION ALL
SELECT * FROM (
    SELECT @finished
      FROM coserver_tag t CROSS JOIN LATERAL (SELECT * FROM coserver_done f WHERE f.id = ANY (ARRAY[t.job])) j
     WHERE t.tag = %(tag)s::text AND t.job < coalesce(%(before)s::bigint, 9223372036854775807) AND @wanted
     ORDER BY t.job DESC LIMIT %(limit)s::integer) AS part
ORDER BY 1 DESC LIMIT %(limit)s::integer
