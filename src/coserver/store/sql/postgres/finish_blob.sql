-- Put large results beside their finished jobs.
INSERT INTO coserver_blob (job, kind, data)
SELECT d.id, 1, o.data
  FROM unnest(%(ids)s::bigint[], %(claims)s::integer[], %(results)s::text[]) AS o (id, claim, data),
       coserver_done d
 WHERE d.id = ANY (ARRAY[o.id]) AND d.claim = o.claim
ON CONFLICT DO NOTHING
