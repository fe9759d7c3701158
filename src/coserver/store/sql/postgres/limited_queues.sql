-- The queues that have a limit.
SELECT substr(name, 7) FROM coserver_limit WHERE starts_with(name, 'queue:')
