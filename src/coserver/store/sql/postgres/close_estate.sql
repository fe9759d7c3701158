-- Nothing is left of workers that died so long ago that no statement of theirs can still be under way (see `grace`):
-- their counters join everybody's.
WITH closed AS (
    UPDATE coserver_worker w SET state = 2
     WHERE w.id = %(worker)s::bigint AND w.state + 0 = 1
       AND w.ended_at < (date_part('epoch', now()) - %(grace)s::integer) * 1000000
       AND NOT EXISTS (SELECT 1 FROM coserver_job j WHERE j.worker = %(worker)s::bigint AND j.state = 6)
    RETURNING w.id
), folded AS (
    DELETE FROM coserver_count c USING closed WHERE c.worker = ANY (ARRAY[closed.id]) RETURNING c.queue, c.state, c.n
)
INSERT INTO coserver_count (worker, queue, state, n)
SELECT 0, queue, state, sum(n) FROM folded GROUP BY queue, state ORDER BY queue, state
ON CONFLICT (worker, queue, state) DO UPDATE SET n = coserver_count.n + excluded.n
