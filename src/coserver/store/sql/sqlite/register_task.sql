-- Make a task known, or take over what newer code says of it.
INSERT INTO coserver_task (name, queue, max_crashes) VALUES (?1, ?2, ?3)
ON CONFLICT (name) DO UPDATE SET queue = excluded.queue, max_crashes = excluded.max_crashes
    WHERE queue <> excluded.queue OR max_crashes <> excluded.max_crashes
