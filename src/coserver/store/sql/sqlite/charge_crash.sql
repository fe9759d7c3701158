-- Charge running jobs with a crash; they go back to their old places.
UPDATE coserver_job SET state = 5, worker = NULL, claimed_at = NULL, crashes = crashes + 1
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 6
