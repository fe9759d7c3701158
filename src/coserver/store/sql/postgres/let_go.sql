-- Jobs that are neither held nor waiting any more become new (if their queue is not known), scheduled, or ready; the last
-- keep their state, for `limits.enter` to change. The time within which to begin counts from when they are due.
UPDATE coserver_job j
   SET waits = 0,
       queue = coalesce(j.queue, (SELECT t.queue FROM coserver_task t WHERE t.name = j.task)),
       begin_by = CASE WHEN j.begin_by < 0
                       THEN greatest(%(now)s::bigint, coalesce(j.run_at, %(now)s::bigint)) - j.begin_by
                       ELSE j.begin_by END,
       state = CASE WHEN j.queue IS NULL AND NOT EXISTS (SELECT 1 FROM coserver_task t WHERE t.name = j.task) THEN 0
                    WHEN j.run_at > %(now)s::bigint THEN 4
                    ELSE j.state END
 WHERE j.id = ANY (%(ids)s::bigint[])
RETURNING j.id, j.state
