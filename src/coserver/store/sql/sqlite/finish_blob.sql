-- Put a large result beside its finished job.
INSERT INTO coserver_blob (job, kind, data)
SELECT id, 1, ?1 FROM coserver_done WHERE id = ?2 AND claim = ?3
ON CONFLICT DO NOTHING
