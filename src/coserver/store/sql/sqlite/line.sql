-- Take :n places at the end of the line. The counter is that of the ids: only one writes at a time, and an id is its
-- own first place. PostgreSQL has a sequence for it.
UPDATE sqlite_sequence SET seq = seq + :n WHERE name = 'coserver_job' RETURNING seq - :n
