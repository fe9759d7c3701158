-- The workers that are present, with how long the lease of each still lasts on the database's clock. NULL: known to be
-- dead.
SELECT w.id, w.process, w.host, w.pid, w.queues, w.tasks, w.parked,
       CASE WHEN w.state = 0 THEN w.lease_until - (date_part('epoch', clock_timestamp()) * 1000000)::bigint END
  FROM coserver_worker w WHERE w.state < 2 ORDER BY w.id
