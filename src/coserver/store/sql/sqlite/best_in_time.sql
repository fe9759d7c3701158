-- As `best`, without those that have not begun in time: while more are overdue than one exchange ends. It has to look
-- into the rows for that. PostgreSQL looks at every row that it locks, and has no other statement for it.
SELECT json_group_array(json_array(priority, seq, id))
  FROM (SELECT priority, seq, id FROM coserver_job INDEXED BY coserver_job_ready
         WHERE state = 5 AND crashes = 0 AND queue = ?1 AND task = ?2
           AND (begin_by BETWEEN 1 AND ?4 AND attempt = 0) IS NOT TRUE
         ORDER BY priority, seq LIMIT ?3)
