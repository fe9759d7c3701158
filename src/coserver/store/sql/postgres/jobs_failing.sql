-- `jobs` by a part of the error: what succeeded has none, so of the ended ones only the others are read.
SELECT * FROM (
    SELECT @living
      FROM coserver_job j
     WHERE j.id < coalesce(%(before)s::bigint, 9223372036854775807) AND @wanted
     ORDER BY j.id DESC LIMIT %(limit)s::integer) AS part
UNION ALL
SELECT * FROM (
    SELECT @finished
      FROM coserver_done j
     WHERE j.id < coalesce(%(before)s::bigint, 9223372036854775807) AND j.state > 10 AND @wanted
     ORDER BY j.id DESC LIMIT %(limit)s::integer) AS part
ORDER BY 1 DESC LIMIT %(limit)s::integer
