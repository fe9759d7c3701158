-- Prolong leases; who is missing in the answer is dead. Steady is who renews before half of the lease is over; a clock that
-- was set back is a gap, too. The disk need not have it.
UPDATE coserver_worker
   SET lease_until = t.now + %(lease)s::bigint, lease = %(lease)s::bigint,
       steady_since = CASE WHEN t.now BETWEEN lease_until - lease AND lease_until - lease / 2
                           THEN steady_since ELSE t.now END
  FROM (SELECT (date_part('epoch', clock_timestamp()) * 1000000)::bigint AS now) t
 WHERE id = ANY (%(workers)s::bigint[]) AND state + 0 = 0
RETURNING id, set_config('synchronous_commit', 'off', true)
