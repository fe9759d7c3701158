-- The same, of one process.
SELECT id, started, note, process FROM coserver_worker WHERE state = 1 AND token = :token
