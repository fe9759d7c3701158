-- Is there a store at all?
SELECT count(*) FROM sqlite_master WHERE type = 'table' AND name = 'coserver_meta'
