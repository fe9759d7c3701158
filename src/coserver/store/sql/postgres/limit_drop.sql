-- Limits are no longer declared.
DELETE FROM coserver_limit WHERE name = ANY (%(names)s::text[])
