-- How many living jobs of these queues are in each state, up to a cap, and how many have ended in each, in any queue;
-- states below zero: how many that ended so were put back.
SELECT q.name, 5,
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job j
                               WHERE j.state = 5 AND j.crashes = 0 AND j.queue = q.name LIMIT %(cap)s::integer) c)
       + (SELECT count(*) FROM (SELECT 1 FROM coserver_job j
                                 WHERE j.state = 5 AND j.crashes > 0 AND j.queue = q.name LIMIT %(cap)s::integer) c)
  FROM unnest(%(names)s::text[]) AS q (name)
UNION ALL
SELECT q.name, s.state,
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job j
                               WHERE j.state BETWEEN 1 AND 4 AND j.queue = q.name AND j.state = s.state
                               LIMIT %(cap)s::integer) c)
  FROM unnest(%(names)s::text[]) AS q (name), (VALUES (1), (2), (3), (4)) AS s (state)
UNION ALL
SELECT queue, 6, count(*) FROM coserver_job WHERE state = 6 GROUP BY queue
UNION ALL
SELECT queue, state, sum(n)::bigint FROM coserver_count GROUP BY queue, state
