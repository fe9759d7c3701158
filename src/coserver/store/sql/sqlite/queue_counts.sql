-- How many living jobs of these queues are in each state, up to a cap, and how many have ended in each, in any queue;
-- states below zero: how many that ended so were put back.
SELECT q.value, 5,
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job j
                               WHERE j.state = 5 AND j.crashes = 0 AND j.queue = q.value LIMIT :cap))
       + (SELECT count(*) FROM (SELECT 1 FROM coserver_job j
                                 WHERE j.state = 5 AND j.crashes > 0 AND j.queue = q.value LIMIT :cap))
  FROM json_each(:names) q
UNION ALL
SELECT q.value, s.value,
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job j
                               WHERE j.state BETWEEN 1 AND 4 AND j.queue = q.value AND j.state = s.value LIMIT :cap))
  FROM json_each(:names) q CROSS JOIN json_each('[1,2,3,4]') s
UNION ALL
SELECT queue, 6, count(*) FROM coserver_job INDEXED BY coserver_job_running WHERE state = 6 GROUP BY queue
UNION ALL
SELECT queue, state, sum(n) FROM coserver_count GROUP BY queue, state
