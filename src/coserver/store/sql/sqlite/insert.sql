-- Store one new job. Its id comes from `line`, which is also its place.
INSERT INTO coserver_job (id, state, priority, seq, max_crashes, created_at, run_at, queue, task, args, options)
VALUES (?1, ?2, ?3, ?1, ?4, ?5, ?6, ?7, ?8, ?9, ?10)
