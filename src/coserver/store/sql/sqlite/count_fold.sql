-- Add the counters of a worker that left to everybody's.
INSERT INTO coserver_count (worker, queue, state, n)
SELECT 0, queue, state, n FROM coserver_count WHERE worker = :worker
ON CONFLICT (worker, queue, state) DO UPDATE SET n = n + excluded.n
