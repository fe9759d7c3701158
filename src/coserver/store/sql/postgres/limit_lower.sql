-- These jobs hold no slots any more.
UPDATE coserver_job SET flags = flags & ~4 WHERE id = ANY (%(ids)s::bigint[]) AND flags & 4 <> 0
