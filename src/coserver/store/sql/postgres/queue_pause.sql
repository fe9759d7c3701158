-- Nobody takes jobs of this queue; who was the first to say so stays.
INSERT INTO coserver_queue (name, paused_at, paused_by)
VALUES (%(queue)s::text, (date_part('epoch', clock_timestamp()) * 1000000)::bigint, %(by)s::text)
ON CONFLICT (name) DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by
    WHERE coserver_queue.paused_at IS NULL
