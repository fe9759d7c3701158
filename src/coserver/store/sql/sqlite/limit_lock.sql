-- Nobody else decides about these limits until the transaction ends: on SQLite it is the only one that writes.
SELECT 1
