-- Prolong leases; who is missing in the answer is dead. Steady is who renews before half of the lease is over.
UPDATE coserver_worker
   SET lease_until = :boot + :lease, lease = :lease, boot = :boot_id,
       steady_since = iif(boot = :boot_id AND :boot BETWEEN lease_until - lease AND lease_until - lease / 2,
                          steady_since, :boot)
 WHERE id IN (SELECT value FROM json_each(:workers)) AND state = 0
RETURNING id
