-- Somebody waits for ends of jobs, for the next 20 seconds at least: whoever records ends tells them (see `exchange`, `end`).
-- The disk need not have it.
INSERT INTO coserver_meta (key, value)
VALUES ('awaited', ((date_part('epoch', now()) * 1000000)::bigint + 20000000)::text)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
    WHERE coserver_meta.value::bigint < (date_part('epoch', now()) * 1000000)::bigint + 10000000
RETURNING set_config('synchronous_commit', 'off', true)
