-- What listings tell of a living job `j`.
j.id, j.task, j.queue, j.state, j.priority, j.args, j.attempt, j.crashes, j.created_at, j.run_at, j.claimed_at,
NULL::bigint, (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL::text, j.error
