-- What runs in queues whose limits are new counts towards them.
WITH running AS MATERIALIZED (
    SELECT j.id, l.name FROM coserver_limit l, coserver_job j
     WHERE l.closed <> 0 AND j.state = 6 AND j.queue = substr(l.name, 7)
     ORDER BY j.id
       FOR UPDATE OF j
)
INSERT INTO coserver_slot (key, job) SELECT r.name, r.id FROM running r
ON CONFLICT DO NOTHING
RETURNING job
