-- A page of jobs by descending id, without the large parts.
SELECT * FROM (
    SELECT @living
      FROM coserver_job j
     WHERE j.id < coalesce(:before, 9223372036854775807) AND @wanted
     ORDER BY j.id DESC LIMIT :limit)
UNION ALL
SELECT * FROM (
    SELECT @finished
      FROM coserver_done j
     WHERE j.id < coalesce(:before, 9223372036854775807) AND @wanted
     ORDER BY j.id DESC LIMIT :limit)
ORDER BY 1 DESC LIMIT :limit
