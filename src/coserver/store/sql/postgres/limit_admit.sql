-- Jobs that got a slot go on: to the next limit in `keys`, or, where that is NULL, into their lines.
UPDATE coserver_job AS j
   SET flags = j.flags | 4, state = CASE WHEN o.key IS NULL THEN 5 ELSE 3 END, blocked_on = o.key
  FROM unnest(%(ids)s::bigint[], %(keys)s::text[]) AS o (id, key)
 WHERE j.id = ANY (ARRAY[o.id]) AND j.state + 0 = 3
