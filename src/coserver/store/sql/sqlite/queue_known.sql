-- The queues that workers, pauses and limits have made known.
SELECT name, paused_at, paused_by FROM coserver_queue
