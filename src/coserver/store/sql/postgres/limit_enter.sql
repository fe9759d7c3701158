-- Jobs become ready, each at the place given: queued, or, if a limit rules them, waiting for their first slot. Their limits
-- are looked at next (see `limit_gate`).
UPDATE coserver_job AS j
   SET seq = coalesce(o.place, j.seq),
       state = CASE WHEN o.key IS NULL THEN 5 ELSE 3 END,
       blocked_on = o.key
  FROM (SELECT i.id, i.place,
               coalesce(n.limit_key, (SELECT l.name FROM coserver_limit l WHERE l.name = 'queue:' || n.queue)) AS key
          FROM unnest(%(ids)s::bigint[], %(places)s::bigint[]) AS i (id, place)
         CROSS JOIN LATERAL (SELECT * FROM coserver_job n WHERE n.id = ANY (ARRAY[i.id])) n) AS o
 WHERE j.id = ANY (ARRAY[o.id])
RETURNING j.id, j.state, j.blocked_on
