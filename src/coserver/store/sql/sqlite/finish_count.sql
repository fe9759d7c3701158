-- Count on the worker's own row what `finish_remove` is about to remove.
INSERT INTO coserver_count (worker, queue, state, n)
SELECT worker, queue, :state, count(*) FROM coserver_job
 WHERE id IN (SELECT value FROM json_each(:ids)) AND worker = :worker AND state = 6
 GROUP BY queue
ON CONFLICT (worker, queue, state) DO UPDATE SET n = n + excluded.n
