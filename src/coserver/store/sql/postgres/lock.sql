-- The living among these jobs as they are now, their rows locked in the order of ids.
SELECT j.id, j.state, j.flags, j.waits, j.claim, j.worker, j.claimed_at, j.attempt, j.crashes, j.queue,
       coalesce(j.max_crashes, (SELECT t.max_crashes FROM coserver_task t WHERE t.name = j.task), 3)
  FROM coserver_job j WHERE j.id = ANY (%(ids)s::bigint[]) ORDER BY j.id
   FOR UPDATE OF j
