-- Does somebody still wait at this limit?
SELECT 1 FROM coserver_job WHERE state = 3 AND blocked_on = :key LIMIT 1
