-- How many jobs are in each state: the living from their partial indexes, the finished from the counters.
SELECT 0, count(*) FROM coserver_job WHERE state = 0
UNION ALL SELECT 1, count(*) FROM coserver_job WHERE state = 1
UNION ALL SELECT 2, count(*) FROM coserver_job WHERE state = 2
UNION ALL SELECT 3, count(*) FROM coserver_job WHERE state = 3
UNION ALL SELECT 4, count(*) FROM coserver_job WHERE state = 4
UNION ALL SELECT 5, count(*) FROM coserver_job WHERE state = 5 AND crashes = 0
UNION ALL SELECT 5, count(*) FROM coserver_job WHERE state = 5 AND crashes > 0
UNION ALL SELECT 6, count(*) FROM coserver_job WHERE state = 6
UNION ALL SELECT state, sum(n)::bigint FROM coserver_count WHERE state > 0 GROUP BY state
