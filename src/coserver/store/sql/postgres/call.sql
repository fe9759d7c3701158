-- A listener calls itself, to know that it hears.
SELECT pg_notify(%(channel)s::text, ''), set_config('synchronous_commit', 'off', true)
