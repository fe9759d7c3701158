-- The workers that are present, with how long the lease of each still lasts on the clock of this boot; a lease of another
-- boot is over. NULL: known to be dead.
SELECT id, process, host, pid, queues, tasks, parked,
       CASE WHEN state = 0 THEN CASE WHEN boot = :boot_id THEN lease_until - :boot ELSE -1 END END
  FROM coserver_worker WHERE state < 2 ORDER BY id
