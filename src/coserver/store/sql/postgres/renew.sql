-- Prolong leases; who is missing in the answer is dead. The disk need not have it.
UPDATE coserver_worker
   SET lease_until = (date_part('epoch', clock_timestamp()) * 1000000)::bigint + %(lease)s::bigint
 WHERE id = ANY (%(workers)s::bigint[]) AND state + 0 = 0
RETURNING id, set_config('synchronous_commit', 'off', true)
