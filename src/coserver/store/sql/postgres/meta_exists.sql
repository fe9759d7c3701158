-- Is there a store at all, where unqualified names find it?
SELECT (to_regclass('coserver_meta') IS NOT NULL)::integer
