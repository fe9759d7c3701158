-- What a live worker reads and provides, and whether it is parked.
SELECT queues, tasks, parked FROM coserver_worker WHERE id = :worker AND state = 0
