-- When time alone makes work: the first scheduled job is due, one has not begun in time, or somebody has to look at a
-- limit. PostgreSQL says in how many µs, because its own clock counts there.
SELECT min(at)
  FROM (SELECT min(run_at) AS at FROM coserver_job WHERE state = 4
        UNION ALL
        SELECT min(begin_by) FROM coserver_job
         WHERE @may_expire
        UNION ALL
        SELECT min(at) FROM coserver_gate)
