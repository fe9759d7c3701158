-- `jobs` for running ones only: by the index of what is in flight, however long the backlog.
SELECT @living
  FROM coserver_job j INDEXED BY coserver_job_running
 WHERE j.id < coalesce(:before, 9223372036854775807) AND j.state = 6 AND @wanted
 ORDER BY j.id DESC LIMIT :limit
