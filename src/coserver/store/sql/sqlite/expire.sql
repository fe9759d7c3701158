-- Notice workers whose lease ran out, or whose boot is over.
UPDATE coserver_worker SET state = 1, parked = 0, ended_at = :now, note = 'its lease ran out'
 WHERE state = 0 AND (boot <> :boot_id OR lease_until < :boot) AND id <> :worker
