-- `jobs` for running ones only: by the index of what is in flight, however long the backlog.
SELECT @living
  FROM (SELECT * FROM coserver_job WHERE state = 6 OFFSET 0) j
 WHERE j.id < coalesce(%(before)s::bigint, 9223372036854775807) AND j.state = 6 AND @wanted
 ORDER BY j.id DESC LIMIT %(limit)s::integer
