-- What the slots of these limits are taken by: held ones, those of jobs that have not begun, starts since a moment (none
-- counts where it is NULL); and whether anybody waits. Starts that lie in the future by more than a period (the clock was
-- set back) do not count.
SELECT k.value,
       (SELECT count(*) FROM coserver_slot s CROSS JOIN coserver_job j ON j.id = s.job
         WHERE s.key = k.value AND s.started_at IS NULL),
       (SELECT count(*) FROM coserver_slot s CROSS JOIN coserver_job j ON j.id = s.job
         WHERE s.key = k.value AND s.started_at IS NULL AND j.state <> 6),
       (SELECT count(*) FROM coserver_slot s CROSS JOIN coserver_job j ON j.id = s.job
         WHERE s.key = k.value AND s.started_at IS NULL AND j.state = 6
           AND j.claimed_at >= json_extract(:sinces, '$[' || k.key || ']')
           AND j.claimed_at <= 2 * :now - json_extract(:sinces, '$[' || k.key || ']'))
       + (SELECT count(*) FROM coserver_slot s
           WHERE s.key = k.value AND s.started_at >= json_extract(:sinces, '$[' || k.key || ']')
             AND s.started_at <= 2 * :now - json_extract(:sinces, '$[' || k.key || ']')),
       EXISTS (SELECT 1 FROM coserver_job w WHERE w.state = 3 AND w.blocked_on = k.value)
  FROM json_each(:keys) k
