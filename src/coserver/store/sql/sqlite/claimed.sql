-- What a worker has to know of the jobs that it was just given, as one JSON array.
SELECT json_group_array(json_array(
          id, claim, task, queue,
          coalesce(args, (SELECT data FROM coserver_blob WHERE job = id AND kind = 0), 'null'),
          attempt, crashes, priority, created_at, options, seq, flags))
  FROM coserver_job WHERE id IN (SELECT value FROM json_each(:ids)) AND worker = :worker AND state = 6
