-- The worker is about to sleep. The disk need not have it.
UPDATE coserver_worker SET parked = 1 WHERE id = %(worker)s::bigint AND state = 0
RETURNING queues, tasks, set_config('synchronous_commit', 'off', true)
