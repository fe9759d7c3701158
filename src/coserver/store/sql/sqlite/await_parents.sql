-- Jobs released while their parents have not ended: they wait.
UPDATE coserver_job SET state = 2 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 1
