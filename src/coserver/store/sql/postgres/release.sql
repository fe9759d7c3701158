-- Hand jobs back as they were: uncharged, and `seq` keeps its old place. Returns what fitted, which leaves
-- out what somebody holds (see `exchange`).
WITH fits AS MATERIALIZED (
    SELECT j.id
      FROM unnest(%(ids)s::bigint[], %(claims)s::integer[]) AS o (id, claim), coserver_job j
     WHERE j.id = ANY (ARRAY[o.id]) AND j.claim = o.claim AND j.worker = %(worker)s::bigint AND j.state + 0 = 6
       AND j.flags = 0
       FOR UPDATE OF j SKIP LOCKED
)
UPDATE coserver_job j SET state = 5, worker = NULL, claimed_at = NULL
  FROM fits o WHERE j.id = ANY (ARRAY[o.id])
RETURNING j.id, j.state
