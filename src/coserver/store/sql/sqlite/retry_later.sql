-- Charge a failed attempt and schedule the job anew.
UPDATE coserver_job SET state = 4, run_at = ?1, error = ?2, attempt = attempt + 1, worker = NULL, claimed_at = NULL
 WHERE id = ?3 AND claim = ?4 AND worker = ?5 AND state = 6 AND flags = 0
