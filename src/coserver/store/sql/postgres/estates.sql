-- Dead workers that still hold jobs, and those that may be closed.
SELECT w.id, w.started, w.note, w.process FROM coserver_worker w
 WHERE w.state = 1
   AND (w.ended_at < (date_part('epoch', now()) - %(grace)s::integer) * 1000000
        OR EXISTS (SELECT 1 FROM coserver_job j WHERE j.worker = ANY (ARRAY[w.id]) AND j.state = 6))
 ORDER BY w.id LIMIT 20
   FOR UPDATE OF w SKIP LOCKED
