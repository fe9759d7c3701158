-- µs until the first scheduled job is due.
SELECT min(run_at) - (date_part('epoch', clock_timestamp()) * 1000000)::bigint FROM coserver_job WHERE state = 4
