-- Prolong leases; who is missing in the answer is dead.
UPDATE coserver_worker SET lease_until = :until, boot = :boot_id
 WHERE id IN (SELECT value FROM json_each(:workers)) AND state = 0
RETURNING id
