-- Large arguments of a new row move beside it.
INSERT INTO coserver_blob (job, kind, data) SELECT id, 0, args FROM coserver_job WHERE id = ?1 AND args IS NOT NULL
