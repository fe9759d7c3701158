-- The first of one (queue, task) in line, read from the ready index alone: a JSON array of [priority, seq, id].
-- One row instead of many, because each row that SQLite hands over costs two changes of the interpreter's lock, and the
-- event loop next door wants it too. The same holds for `claimed` and `finish`.
SELECT json_group_array(json_array(priority, seq, id))
  FROM (SELECT priority, seq, id FROM coserver_job INDEXED BY coserver_job_ready
         WHERE state = 5 AND crashes = 0 AND queue = ?1 AND task = ?2
         ORDER BY priority, seq LIMIT ?3)
