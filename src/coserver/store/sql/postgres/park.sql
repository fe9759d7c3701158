-- The worker is about to sleep. One that is parked already writes nothing, so that idling leaves no trace. The disk
-- need not have it.
UPDATE coserver_worker SET parked = 1 WHERE id = %(worker)s::bigint AND state + 0 = 0 AND parked = 0
RETURNING set_config('synchronous_commit', 'off', true)
