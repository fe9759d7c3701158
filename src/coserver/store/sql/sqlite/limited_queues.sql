-- The queues that have a limit.
SELECT substr(name, 7) FROM coserver_limit WHERE name >= 'queue:' AND name < 'queue;'
