-- Whom to rouse: parked live workers, the latest to park first, because their memory is warm.
SELECT id, wake, queues, tasks FROM coserver_worker WHERE parked = 1 AND state = 0 ORDER BY id DESC LIMIT 200
