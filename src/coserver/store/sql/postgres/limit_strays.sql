-- Jobs in line in a queue with a limit that have no slot of it go and wait for one: those that were there when the limit was
-- declared, and those that came while it was. Rows that somebody is about to claim are waited for.
WITH strays AS MATERIALIZED (
    SELECT f.id
      FROM coserver_limit l, LATERAL (
           (SELECT j.id FROM coserver_job j
             WHERE j.state = 5 AND j.crashes = 0 AND j.queue = substr(l.name, 7)
               AND (SELECT count(*) FROM coserver_slot s WHERE s.job = j.id AND s.key = l.name) = 0
             ORDER BY j.task, j.priority, j.seq LIMIT %(limit)s::integer)
           UNION ALL
           (SELECT j.id FROM coserver_job j
             WHERE j.state = 5 AND j.crashes > 0 AND j.queue = substr(l.name, 7)
               AND (SELECT count(*) FROM coserver_slot s WHERE s.job = j.id AND s.key = l.name) = 0
             ORDER BY j.task, j.priority, j.seq LIMIT %(limit)s::integer)) f
     WHERE starts_with(l.name, 'queue:')
     LIMIT %(limit)s::integer
), locked AS MATERIALIZED (
    SELECT j.id
      FROM (SELECT s.id FROM strays s ORDER BY s.id) s, LATERAL (
           SELECT f.id FROM coserver_job f WHERE f.id = ANY (ARRAY[s.id]) AND f.state + 0 = 5 FOR UPDATE) j
)
UPDATE coserver_job j SET state = 3, blocked_on = 'queue:' || j.queue
  FROM locked l WHERE j.id = ANY (ARRAY[l.id]) AND j.state + 0 = 5
RETURNING j.id, j.blocked_on
