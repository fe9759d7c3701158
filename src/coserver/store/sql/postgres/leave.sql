-- The incarnation ends in order: what it holds, or what a statement of its own still under way may give it, goes back
-- uncharged. `close_estate` ends it after the grace.
UPDATE coserver_worker
   SET state = 1, parked = 0, started = '[]', note = 'it left',
       ended_at = (date_part('epoch', clock_timestamp()) * 1000000)::bigint
 WHERE id = %(worker)s::bigint AND state + 0 = 0
RETURNING id
