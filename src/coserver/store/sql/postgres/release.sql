-- Hand jobs back as they were: uncharged, and `seq` keeps its old place. Returns what fitted.
UPDATE coserver_job j SET state = 5, worker = NULL, claimed_at = NULL
  FROM unnest(%(ids)s::bigint[], %(claims)s::integer[]) AS o (id, claim)
 WHERE j.id = ANY (ARRAY[o.id]) AND j.claim = o.claim AND j.worker = %(worker)s::bigint AND j.state + 0 = 6 AND j.flags = 0
RETURNING j.id, j.state
