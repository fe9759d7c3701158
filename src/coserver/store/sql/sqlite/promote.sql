-- A scheduled job takes a fresh place in line.
UPDATE coserver_job SET state = 5, seq = ?1 WHERE id = ?2 AND state = 4
