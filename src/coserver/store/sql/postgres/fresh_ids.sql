-- Take fresh ids for new jobs; on SQLite they come from `line`.
SELECT nextval('coserver_job_id_seq') FROM generate_series(1, %(n)s::integer)
