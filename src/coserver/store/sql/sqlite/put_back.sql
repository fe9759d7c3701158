-- Hand running jobs back as they were, slots and all.
UPDATE coserver_job SET state = 5, worker = NULL, claimed_at = NULL
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 6
