-- Remove dead rows now. Nobody is waited for and nobody has to wait.
VACUUM (SKIP_LOCKED, TRUNCATE FALSE) coserver_job
