-- The limits that somebody has to look at now. Losing what follows to a power failure only means doing it again, so the
-- commit need not wait for the disk.
SELECT key, set_config('synchronous_commit', 'off', true) FROM coserver_gate WHERE at <= %(now)s::bigint ORDER BY at LIMIT %(limit)s::integer
