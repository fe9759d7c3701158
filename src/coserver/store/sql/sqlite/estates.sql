-- Dead workers that may still hold jobs.
SELECT id, started, note, process FROM coserver_worker WHERE state = 1 LIMIT 20
