-- What listings tell of a finished job `j`, as `living`.
j.id, CAST(j.task AS BLOB), CAST(j.queue AS BLOB), j.state, j.priority, CAST(j.args AS BLOB), j.attempt, j.crashes,
j.created_at, j.run_at, j.started_at, j.finished_at, (SELECT process FROM coserver_worker w WHERE w.id = j.worker),
CAST(j.result AS BLOB), CAST(j.error AS BLOB)
