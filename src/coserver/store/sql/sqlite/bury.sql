-- The workers of a process that the kernel says is dead. An estate already open keeps what is known of it.
UPDATE coserver_worker SET state = 1, parked = 0, ended_at = :now, started = :started, note = :note
 WHERE token = :token AND state = 0
