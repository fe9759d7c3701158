-- The dead workers of one process.
SELECT id, started, note, process FROM coserver_worker WHERE state = 1 AND token = %(token)s::text
 ORDER BY id
   FOR UPDATE
