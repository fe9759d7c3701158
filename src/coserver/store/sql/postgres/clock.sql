-- The database's time (µs UTC); SQLite takes the process's own.
SELECT (date_part('epoch', clock_timestamp()) * 1000000)::bigint
