-- Jobs are over or start anew, but their starts count for a rate.
UPDATE coserver_slot AS s SET job = NULL, started_at = o.start
  FROM unnest(%(slots)s::bigint[], %(starts)s::bigint[]) AS o (id, start)
 WHERE s.id = ANY (ARRAY[o.id])
