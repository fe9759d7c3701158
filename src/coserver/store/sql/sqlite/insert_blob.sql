-- Put large arguments beside their job.
INSERT INTO coserver_blob (job, kind, data) VALUES (?1, 0, ?2)
