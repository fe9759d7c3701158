-- Jobs put back run anew: those from which they were taking over are of no interest any more.
DELETE FROM coserver_dep WHERE child = ANY (%(ids)s::bigint[]) AND state IS NULL AND on_end = 3
