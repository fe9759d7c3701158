-- Jobs become ready, each at the place given: queued, or, if a limit rules them, waiting for their first slot. Their limits
-- are looked at next (see `limit_gate`).
UPDATE coserver_job AS j
   SET seq = coalesce(o.place, j.seq),
       state = CASE WHEN o.key IS NULL THEN 5 ELSE 3 END,
       blocked_on = o.key
  FROM (SELECT i.value AS id, json_extract(:places, '$[' || i.key || ']') AS place,
               coalesce(n.limit_key, (SELECT l.name FROM coserver_limit l WHERE l.name = 'queue:' || n.queue)) AS key
          FROM json_each(:ids) i CROSS JOIN coserver_job n ON n.id = i.value) AS o
 WHERE j.id = o.id
RETURNING id, state, blocked_on
