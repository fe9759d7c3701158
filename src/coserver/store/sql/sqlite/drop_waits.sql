-- Jobs put back do not wait again: what had not ended on their edges is of no interest any more.
DELETE FROM coserver_dep WHERE child IN (SELECT value FROM json_each(:ids)) AND state IS NULL
