-- µs until the first scheduled job is due, or somebody has to look at a limit.
SELECT least((SELECT min(run_at) FROM coserver_job WHERE state = 4), (SELECT min(at) FROM coserver_gate))
       - (date_part('epoch', clock_timestamp()) * 1000000)::bigint
