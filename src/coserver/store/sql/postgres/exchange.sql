-- One round trip per batch: record the ends of jobs that succeeded or failed, and claim the next.
-- SQLite does it in several statements of one transaction; here a round trip costs more than the work.
--
-- told … counted: every finish is fenced by id, claim number and worker. Only rows without flags go this way, and none
--   that somebody holds: a caller may keep a parent locked for as long as a transaction of its own is open.
-- pairs … picked: of every provided (queue, task) the first in line, locked so that two claimers never meet, then the
--   best over all. A job that has killed workers is no candidate, but nothing behind it in line is claimed before it.
--   A paused queue is left out, and a job that has not begun in time: whoever may hold its row, so that it cannot be
--   ended just now, holds up no other. In a queue with a limit only jobs that hold its slot are taken: one that became
--   ready while the limit was being declared may stand in line without, until the next tick.
-- claimed: only for a live worker. Its time is read after everything else, so that no start comes before the admission
--   that let it in (`store.limits`).
--
-- `= ANY (ARRAY[…])` and `+ 0` leave the planner one way to find the rows of a list, here and in the other statements:
-- one probe of the primary key for each. Plans are kept, and one made while the table was nearly empty finds any other
-- index as good, and later reads everything in flight, or everything, for each row of the list.
--
-- The answer's first row (its task is NULL) is about the store: how many finishes fitted, is the worker live, is
-- anything to be routed, is a dead worker's estate open, does a suspect wait, when does time alone make work
-- (a scheduled job is due, one has not begun in time, a limit is to be looked at). It lets a commit that only claims return
-- before the disk has it, and tells those who wait for ends of jobs, if anybody does.
WITH told AS MATERIALIZED (
    SELECT * FROM unnest(%(ids)s::bigint[], %(claims)s::integer[], %(states)s::smallint[], %(starts)s::bigint[],
                         %(ends)s::bigint[], %(results)s::text[], %(errors)s::text[])
               AS o (id, claim, state, started_at, finished_at, result, error)
), fits AS MATERIALIZED (
    SELECT j.id, o.state, o.started_at, o.finished_at, o.result, o.error
      FROM told o, coserver_job j
     WHERE j.id = ANY (ARRAY[o.id]) AND j.claim = o.claim AND j.worker = %(worker)s::bigint AND j.state + 0 = 6
       AND j.flags = 0
       FOR UPDATE OF j SKIP LOCKED
), gone AS (
    DELETE FROM coserver_job j USING fits o
     WHERE j.id = ANY (ARRAY[o.id])
    RETURNING j.id, j.worker, j.created_at, j.run_at, o.started_at, o.finished_at, j.claim, j.attempt, j.crashes,
              j.max_crashes, o.state, j.priority, j.queue, j.task, j.args, j.options, o.result, o.error,
              j.unique_key, j.limit_key
), kept AS (
    INSERT INTO coserver_done (id, worker, created_at, run_at, started_at, finished_at, claim, attempt, crashes,
                               max_crashes, state, priority, queue, task, args, options, result, error,
                               unique_key, limit_key)
    SELECT * FROM gone
), counted AS (
    INSERT INTO coserver_count (worker, queue, state, n)
    SELECT worker, queue, state, count(*) FROM gone GROUP BY worker, queue, state ORDER BY queue, state
    ON CONFLICT (worker, queue, state) DO UPDATE SET n = coserver_count.n + excluded.n
), closed AS MATERIALIZED (
    SELECT ARRAY(SELECT name FROM coserver_queue WHERE paused_at IS NOT NULL) AS paused,
           ARRAY(SELECT substr(name, 7) FROM coserver_limit WHERE starts_with(name, 'queue:')) AS limited
), me AS MATERIALIZED (
    SELECT id FROM coserver_worker WHERE id = %(worker)s::bigint AND state + 0 = 0
), pairs AS MATERIALIZED (
    SELECT p.queue, p.task, p.room, p.queue = ANY (c.limited) AS limited
      FROM unnest(%(queues)s::text[], %(tasks)s::text[], %(rooms)s::integer[]) AS p (queue, task, room), me, closed c
     WHERE p.queue <> ALL (c.paused)
), suspect AS MATERIALIZED (
    SELECT c.priority, c.seq
      FROM pairs p, LATERAL (
           SELECT j.priority, j.seq FROM coserver_job j
            WHERE j.state = 5 AND j.crashes > 0 AND j.queue = p.queue AND j.task = p.task
              AND (NOT p.limited OR EXISTS (SELECT 1 FROM coserver_slot s WHERE s.job = j.id AND s.key = 'queue:' || j.queue))
            ORDER BY j.priority, j.seq LIMIT 1) c
     WHERE EXISTS (SELECT 1 FROM coserver_job WHERE state = 5 AND crashes > 0)
     ORDER BY c.priority, c.seq LIMIT 1
), lines AS MATERIALIZED (
    SELECT c.id, c.priority, c.seq, p.room, row_number() OVER (PARTITION BY p.queue ORDER BY c.priority, c.seq) AS place
      FROM pairs p, LATERAL (
           SELECT j.id, j.priority, j.seq FROM coserver_job j
            WHERE j.state = 5 AND j.crashes = 0 AND j.queue = p.queue AND j.task = p.task
              AND (j.begin_by BETWEEN 1 AND (date_part('epoch', now()) * 1000000)::bigint AND j.attempt = 0) IS NOT TRUE
              AND (NOT p.limited OR EXISTS (SELECT 1 FROM coserver_slot s WHERE s.job = j.id AND s.key = 'queue:' || j.queue))
            ORDER BY j.priority, j.seq LIMIT p.room
              FOR UPDATE SKIP LOCKED) c
), picked AS MATERIALIZED (
    SELECT l.id FROM lines l
     WHERE l.place <= l.room
       AND NOT EXISTS (SELECT 1 FROM suspect s WHERE (s.priority, s.seq) < (l.priority, l.seq))
     ORDER BY l.priority, l.seq LIMIT %(limit)s::integer
), claimed AS (
    UPDATE coserver_job j
       SET state = 6, worker = %(worker)s::bigint, claim = j.claim + 1,
           claimed_at = (date_part('epoch', clock_timestamp()) * 1000000)::bigint,
           unique_key = CASE WHEN j.flags & 8 = 0 THEN j.unique_key END, flags = j.flags & ~8
      FROM picked p WHERE j.id = ANY (ARRAY[p.id]) AND j.state + 0 = 5
    RETURNING j.id, j.claim, j.task, j.queue, j.args, j.attempt, j.crashes, j.priority, j.created_at, j.options, j.seq,
              j.flags
), awake AS (
    UPDATE coserver_worker SET parked = 0
     WHERE id = %(worker)s::bigint AND parked = 1 AND EXISTS (SELECT 1 FROM claimed)
)
SELECT (SELECT count(*) FROM gone), (SELECT count(*) FROM me)::integer, NULL,
       CASE WHEN EXISTS (SELECT 1 FROM gone)
             AND (SELECT value::bigint FROM coserver_meta WHERE key = 'awaited') > date_part('epoch', now()) * 1000000
            THEN pg_notify('coserver_ends', '')::text END, NULL,
       (EXISTS (SELECT 1 FROM coserver_job WHERE state = 0)
        AND EXISTS (SELECT 1 FROM coserver_task t, LATERAL (
                           SELECT 1 FROM coserver_job j WHERE j.state = 0 AND j.task = t.name LIMIT 1) n))::integer,
       EXISTS (SELECT 1 FROM coserver_worker w
                WHERE w.state < 2
                  AND CASE WHEN w.state = 0
                           THEN w.lease_until < date_part('epoch', now()) * 1000000 AND w.id <> %(worker)s::bigint
                                AND EXISTS (SELECT 1 FROM coserver_worker s
                                             WHERE s.state = 0
                                               AND s.steady_since + w.lease <= date_part('epoch', now()) * 1000000
                                               AND s.lease_until - s.lease / 2 >= date_part('epoch', now()) * 1000000)
                           ELSE w.ended_at < (date_part('epoch', now()) - %(grace)s::integer) * 1000000
                                OR EXISTS (SELECT 1 FROM coserver_job j WHERE j.worker = ANY (ARRAY[w.id]) AND j.state = 6)
                      END)::integer,
       EXISTS (SELECT 1 FROM suspect)::integer::smallint,
       least((SELECT min(run_at) FROM coserver_job WHERE state = 4),
             (SELECT min(begin_by) FROM coserver_job
               WHERE @may_expire),
             (SELECT min(at) FROM coserver_gate))
           - (date_part('epoch', now()) * 1000000)::bigint,
       CASE WHEN %(lazy)s::boolean AND NOT EXISTS (SELECT 1 FROM claimed c WHERE c.flags & 4 <> 0) THEN set_config('synchronous_commit', 'off', true) END,
       0
UNION ALL
SELECT c.id, c.claim, c.task, c.queue,
       coalesce(c.args, (SELECT b.data FROM coserver_blob b WHERE b.job = c.id AND b.kind = 0), 'null'),
       c.attempt, c.crashes, c.priority, c.created_at, c.options, c.seq
  FROM claimed c
