-- A checked new row takes its place: queued, or scheduled if its time has not come.
UPDATE coserver_job SET state = ?1, queue = ?2, seq = ?3 WHERE id = ?4 AND state = 0
