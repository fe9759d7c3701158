-- How these jobs ended, with their whole results.
SELECT id, state, coalesce(result, (SELECT data FROM coserver_blob WHERE job = id AND kind = 1)), error
  FROM coserver_done WHERE id IN (SELECT value FROM json_each(:ids))
