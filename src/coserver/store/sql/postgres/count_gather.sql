-- What transactions of callers have counted on rows of their own (`worker` below zero) joins everybody's counters. Returns
-- how many rows that were. SQLite has no such rows: it has one writer at a time.
WITH apart AS MATERIALIZED (
    SELECT worker, queue, state FROM coserver_count WHERE worker < 0
     ORDER BY worker LIMIT %(limit)s::integer
       FOR UPDATE SKIP LOCKED
), folded AS (
    DELETE FROM coserver_count c USING apart a
     WHERE c.worker = ANY (ARRAY[a.worker]) AND c.queue = a.queue AND c.state = a.state
    RETURNING c.queue, c.state, c.n
), joined AS (
    INSERT INTO coserver_count (worker, queue, state, n)
    SELECT 0, queue, state, sum(n) FROM folded GROUP BY queue, state ORDER BY queue, state
    ON CONFLICT (worker, queue, state) DO UPDATE SET n = coserver_count.n + excluded.n
)
SELECT count(*) FROM folded
