-- The limits that somebody has to look at now.
SELECT key FROM coserver_gate WHERE at <= %(now)s::bigint ORDER BY at LIMIT %(limit)s::integer
