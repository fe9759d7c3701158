-- Whether a job of `coserver_job` has a time by which it has to begin and has not begun: the words of the index.
begin_by > 0 AND begin_by IS NOT NULL AND state < 6 AND attempt = 0 AND crashes = 0
