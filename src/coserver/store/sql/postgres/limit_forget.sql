-- Starts so long ago that they count for no rate any more.
DELETE FROM coserver_slot s
 USING unnest(%(keys)s::text[], %(sinces)s::bigint[]) AS k (key, since)
 WHERE s.key = k.key AND s.started_at < k.since
