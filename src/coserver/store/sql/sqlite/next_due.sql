-- When the first scheduled job is due; PostgreSQL says in how many µs, because its own clock counts there.
SELECT min(run_at) FROM coserver_job WHERE state = 4
