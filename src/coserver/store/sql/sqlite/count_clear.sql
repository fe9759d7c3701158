-- The second half of `count_fold`.
DELETE FROM coserver_count WHERE worker = :worker
