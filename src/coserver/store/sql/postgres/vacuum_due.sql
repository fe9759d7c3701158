-- Have so many rows of the job table died that claims notice?
SELECT n_dead_tup > 50000 + n_live_tup / 4 FROM pg_stat_user_tables WHERE relid = 'coserver_job'::regclass
