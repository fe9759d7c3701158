-- `jobs` by a part of the error: what succeeded has none, so of the ended ones only the others are read.
SELECT * FROM (
    SELECT @living
      FROM coserver_job j
     WHERE j.id < coalesce(:before, 9223372036854775807) AND @wanted
     ORDER BY j.id DESC LIMIT :limit)
UNION ALL
SELECT * FROM (
    SELECT @finished
      FROM coserver_done j INDEXED BY coserver_done_unsuccessful
     WHERE j.id < coalesce(:before, 9223372036854775807) AND j.state > 10 AND @wanted
     ORDER BY j.id DESC LIMIT :limit)
ORDER BY 1 DESC LIMIT :limit
