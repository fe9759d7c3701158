-- A new incarnation of a worker; its queues and tasks become known. None, if the store asks for a newer protocol.
WITH queues AS (
    INSERT INTO coserver_queue (name) SELECT unnest(%(queue_names)s::text[]) ORDER BY 1 ON CONFLICT DO NOTHING
), tasks AS (
    INSERT INTO coserver_task (name, queue, max_crashes)
    SELECT * FROM unnest(%(task_names)s::text[], %(task_queues)s::text[], %(task_crashes)s::integer[]) AS o (name, queue, n)
     ORDER BY o.name
    ON CONFLICT (name) DO UPDATE SET queue = excluded.queue, max_crashes = excluded.max_crashes
        WHERE coserver_task.queue <> excluded.queue OR coserver_task.max_crashes <> excluded.max_crashes
)
INSERT INTO coserver_worker (lease_until, lease, steady_since, process, host, pid, token, wake, queues, tasks, created_at, protocol)
SELECT (date_part('epoch', clock_timestamp()) * 1000000)::bigint + %(lease)s::bigint, %(lease)s::bigint,
       (date_part('epoch', clock_timestamp()) * 1000000)::bigint, %(process)s::text, %(host)s::text, %(pid)s::bigint, %(token)s::text, %(wake)s::text, %(queues)s::text, %(tasks)s::text,
       (date_part('epoch', clock_timestamp()) * 1000000)::bigint, %(protocol)s::integer
 WHERE %(protocol)s::integer >= coalesce((SELECT value::integer FROM coserver_meta WHERE key = 'min_protocol'), 0)
RETURNING id
