-- Checked new rows take their places in the order in which they are told: queued, or scheduled if their time has not
-- come. Large arguments move beside them.
WITH told AS MATERIALIZED (
    SELECT o.*, CASE WHEN o.due IS NULL THEN nextval('coserver_seq') END AS seq
      FROM unnest(%(ids)s::bigint[], %(queues)s::text[], %(dues)s::bigint[], %(larges)s::boolean[])
               AS o (id, queue, due, large)
), blobs AS (
    INSERT INTO coserver_blob (job, kind, data)
    SELECT j.id, 0, j.args FROM told o, coserver_job j WHERE o.large AND j.id = ANY (ARRAY[o.id]) AND j.state + 0 = 0 AND j.args IS NOT NULL
)
UPDATE coserver_job j
   SET state = CASE WHEN o.due IS NULL THEN 5 ELSE 4 END,
       seq = o.seq, queue = o.queue, args = CASE WHEN o.large THEN NULL ELSE j.args END
  FROM told o WHERE j.id = ANY (ARRAY[o.id]) AND j.state + 0 = 0
