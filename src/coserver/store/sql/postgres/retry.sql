-- Charge failed attempts: scheduled anew, or at once at the end of the line. Returns what fitted, which
-- leaves out what somebody holds (see `exchange`).
WITH fits AS MATERIALIZED (
    SELECT j.id, o.delay, o.error
      FROM unnest(%(ids)s::bigint[], %(claims)s::integer[], %(delays)s::bigint[], %(errors)s::text[])
           AS o (id, claim, delay, error), coserver_job j
     WHERE j.id = ANY (ARRAY[o.id]) AND j.claim = o.claim AND j.worker = %(worker)s::bigint AND j.state + 0 = 6
       AND j.flags = 0
       FOR UPDATE OF j SKIP LOCKED
)
UPDATE coserver_job j
   SET state = CASE WHEN o.delay > 0 THEN 4 ELSE 5 END,
       run_at = CASE WHEN o.delay > 0
                     THEN (date_part('epoch', clock_timestamp()) * 1000000)::bigint + o.delay ELSE j.run_at END,
       seq = CASE WHEN o.delay > 0 THEN NULL ELSE nextval('coserver_seq') END,
       error = o.error, attempt = j.attempt + 1, worker = NULL, claimed_at = NULL
  FROM fits o WHERE j.id = ANY (ARRAY[o.id])
RETURNING j.id, j.state
