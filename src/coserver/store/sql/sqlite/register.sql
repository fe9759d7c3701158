-- A new incarnation of a worker.
INSERT INTO coserver_worker (lease_until, boot, process, host, pid, token, wake, queues, tasks, created_at, protocol)
VALUES (:until, :boot_id, :process, :host, :pid, :token, :wake, :queues, :tasks, :now, :protocol)
RETURNING id
