-- Charge a failed attempt and put the job at the end of its line at once.
UPDATE coserver_job SET state = 5, seq = ?1, error = ?2, attempt = attempt + 1, worker = NULL, claimed_at = NULL
 WHERE id = ?3 AND claim = ?4 AND worker = ?5 AND state = 6 AND flags = 0
