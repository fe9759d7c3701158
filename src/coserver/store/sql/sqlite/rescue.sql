-- Free a job of a dead worker: back to its old place, charged with a crash if it had begun.
UPDATE coserver_job SET state = 5, worker = NULL, claimed_at = NULL, crashes = crashes + ?1
 WHERE id = ?2 AND state = 6
