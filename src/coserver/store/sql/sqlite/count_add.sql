-- Count finished jobs on the worker's own row.
INSERT INTO coserver_count (worker, queue, state, n) VALUES (?1, ?2, ?3, ?4)
ON CONFLICT (worker, queue, state) DO UPDATE SET n = n + excluded.n
