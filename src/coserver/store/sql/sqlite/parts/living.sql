-- What listings tell of a living job `j`. Text as bytes, since it may be none.
j.id, CAST(j.task AS BLOB), CAST(j.queue AS BLOB), j.state, j.priority, CAST(j.args AS BLOB), j.attempt, j.crashes,
j.created_at, j.run_at, j.claimed_at, NULL, (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL,
CAST(j.error AS BLOB)
