-- Limits are no longer declared.
DELETE FROM coserver_limit WHERE name IN (SELECT value FROM json_each(:names))
