-- Hand a job back as it was: uncharged, and `seq` keeps its old place.
UPDATE coserver_job SET state = 5, worker = NULL, claimed_at = NULL
 WHERE id = ?1 AND claim = ?2 AND worker = ?3 AND state = 6 AND flags = 0
