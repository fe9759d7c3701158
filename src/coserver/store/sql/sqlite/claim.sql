-- Give the chosen jobs to the worker.
UPDATE coserver_job SET state = 6, worker = :worker, claim = claim + 1, claimed_at = :now
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state = 5
