-- µs until time alone makes work: the first scheduled job is due, one has not begun in time, or somebody has to look at
-- a limit.
SELECT least((SELECT min(run_at) FROM coserver_job WHERE state = 4),
             (SELECT min(begin_by) FROM coserver_job
               WHERE begin_by > 0 AND begin_by IS NOT NULL AND state < 6 AND attempt = 0 AND crashes = 0),
             (SELECT min(at) FROM coserver_gate))
       - (date_part('epoch', clock_timestamp()) * 1000000)::bigint
