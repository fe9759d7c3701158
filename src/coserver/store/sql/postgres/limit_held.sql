-- The slots that these jobs hold, and when each began its present run.
SELECT s.id, s.key, s.job,
       CASE WHEN EXISTS (SELECT 1 FROM coserver_job j WHERE j.id = ANY (ARRAY[s.job]))
            THEN (SELECT j.claimed_at FROM coserver_job j WHERE j.id = ANY (ARRAY[s.job]))
            ELSE (SELECT d.started_at FROM coserver_done d WHERE d.id = ANY (ARRAY[s.job])) END
  FROM coserver_slot s WHERE s.job = ANY (%(ids)s::bigint[])
 ORDER BY s.id
