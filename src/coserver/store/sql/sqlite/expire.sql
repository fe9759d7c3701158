-- Notice workers whose boot is over, or whose lease ran out while a steady one shows that they could have renewed it: when
-- the file was locked or the machine paused, nobody is dead only because nobody could renew.
UPDATE coserver_worker AS w SET state = 1, parked = 0, ended_at = :now, note = 'its lease ran out'
 WHERE state = 0 AND id <> :worker
   AND (boot <> :boot_id
        OR (lease_until < :boot
            AND EXISTS (SELECT 1 FROM coserver_worker s
                        WHERE s.state = 0 AND s.boot = :boot_id AND s.steady_since + w.lease <= :boot
                          AND s.lease_until - s.lease / 2 >= :boot)))
