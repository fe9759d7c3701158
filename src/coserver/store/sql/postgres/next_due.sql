-- µs until time alone makes work: the first scheduled job is due, one has not begun in time, or somebody has to look at
-- a limit.
SELECT least((SELECT min(run_at) FROM coserver_job WHERE state = 4),
             (SELECT min(begin_by) FROM coserver_job
               WHERE @may_expire),
             (SELECT min(at) FROM coserver_gate))
       - (date_part('epoch', clock_timestamp()) * 1000000)::bigint
