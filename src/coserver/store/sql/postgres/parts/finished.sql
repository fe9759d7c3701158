-- What listings tell of a finished job `j`.
j.id, j.task, j.queue, j.state, j.priority, j.args, j.attempt, j.crashes, j.created_at, j.run_at, j.started_at,
j.finished_at, (SELECT process FROM coserver_worker w WHERE w.id = j.worker), j.result, j.error
