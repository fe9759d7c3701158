-- Jobs put back run anew: those from which they were taking over are of no interest any more.
DELETE FROM coserver_dep WHERE child IN (SELECT value FROM json_each(:ids)) AND state IS NULL AND on_end = 3
