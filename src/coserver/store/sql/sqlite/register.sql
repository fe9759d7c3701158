-- A new incarnation of a worker.
INSERT INTO coserver_worker (lease_until, lease, steady_since, boot, process, host, pid, token, wake, queues, tasks,
                             created_at, protocol)
VALUES (:boot + :lease, :lease, :boot, :boot_id, :process, :host, :pid, :token, :wake, :queues, :tasks, :now, :protocol)
RETURNING id
