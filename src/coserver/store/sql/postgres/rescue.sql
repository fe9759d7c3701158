-- Free jobs of a dead worker: back to their old places, charged with a crash if they had begun.
UPDATE coserver_job j SET state = 5, worker = NULL, claimed_at = NULL, crashes = j.crashes + o.charge
  FROM unnest(%(ids)s::bigint[], %(charges)s::integer[]) AS o (id, charge)
 WHERE j.id = ANY (ARRAY[o.id]) AND j.state + 0 = 6
