-- The slots that these jobs hold, and when each began its present run.
SELECT s.id, s.key, s.job, CASE WHEN j.id IS NULL THEN d.started_at ELSE j.claimed_at END
  FROM json_each(:ids) i CROSS JOIN coserver_slot s ON s.job = i.value
  LEFT JOIN coserver_job j ON j.id = s.job
  LEFT JOIN coserver_done d ON d.id = s.job
 ORDER BY s.id
