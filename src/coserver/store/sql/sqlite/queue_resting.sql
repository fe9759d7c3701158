-- The queues of jobs that are held, waiting, limited or scheduled: from one to the next along their index, however many
-- jobs there are.
WITH RECURSIVE resting (queue) AS (
    SELECT (SELECT min(j.queue) FROM coserver_job j WHERE j.state BETWEEN 1 AND 4)
    UNION ALL
    SELECT (SELECT min(j.queue) FROM coserver_job j WHERE j.state BETWEEN 1 AND 4 AND j.queue > r.queue)
      FROM resting r
     WHERE r.queue IS NOT NULL)
SELECT CAST(queue AS BLOB) FROM resting WHERE queue IS NOT NULL
