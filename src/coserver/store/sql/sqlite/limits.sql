-- The declared limits.
SELECT name, running, starts, period, closed FROM coserver_limit ORDER BY name
