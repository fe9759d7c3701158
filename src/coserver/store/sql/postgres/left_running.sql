-- Jobs that a dead worker left, with the number of crashes that loses each. What somebody holds is left for later, and so
-- the estate stays open (see `close_estate`).
SELECT j.id, j.crashes, j.flags,
       coalesce(j.max_crashes, (SELECT t.max_crashes FROM coserver_task t WHERE t.name = j.task), 3)
  FROM coserver_job j WHERE j.worker = %(worker)s::bigint AND j.state = 6
 ORDER BY j.id LIMIT %(limit)s::integer
   FOR UPDATE OF j SKIP LOCKED
