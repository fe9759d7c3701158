-- Jobs that a dead worker left, with the number of crashes that loses each.
SELECT id, crashes, flags,
       coalesce(max_crashes, (SELECT max_crashes FROM coserver_task WHERE name = task), 3)
  FROM coserver_job WHERE worker = :worker AND state = 6 ORDER BY id LIMIT :limit
