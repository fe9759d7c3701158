-- How these jobs ended, with their whole results.
SELECT d.id, d.state, coalesce(d.result, (SELECT b.data FROM coserver_blob b WHERE b.job = d.id AND b.kind = 1)), d.error
  FROM coserver_done d WHERE d.id = ANY (%(ids)s::bigint[])
