-- Jobs that are neither held nor waiting any more become new (if their queue is not known), scheduled, or ready; the last
-- keep their state, for `limits.enter` to change. The time within which to begin counts from when they are due.
UPDATE coserver_job
   SET waits = 0,
       queue = coalesce(queue, (SELECT t.queue FROM coserver_task t WHERE t.name = task)),
       begin_by = CASE WHEN begin_by < 0 THEN max(:now, coalesce(run_at, :now)) - begin_by ELSE begin_by END,
       state = CASE WHEN queue IS NULL AND NOT EXISTS (SELECT 1 FROM coserver_task t WHERE t.name = task) THEN 0
                    WHEN run_at > :now THEN 4
                    ELSE state END
 WHERE id IN (SELECT value FROM json_each(:ids))
RETURNING id, state
