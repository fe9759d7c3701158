-- Copy jobs, whatever they were doing, to the finished ones; `remove` takes the rows away. `told` is a JSON array of
-- [id, state, started_at, finished_at, result, error, crashes to charge].
INSERT INTO coserver_done (
    id, state, priority, worker, claim, attempt, crashes, max_crashes, created_at, run_at,
    started_at, finished_at, queue, task, args, options, result, error, unique_key, limit_key, flags)
SELECT j.id, json_extract(o.value, '$[1]'), j.priority, j.worker, j.claim, j.attempt,
       j.crashes + json_extract(o.value, '$[6]'), j.max_crashes, j.created_at, j.run_at,
       json_extract(o.value, '$[2]'), json_extract(o.value, '$[3]'), j.queue, j.task, j.args, j.options,
       json_extract(o.value, '$[4]'), json_extract(o.value, '$[5]'), j.unique_key, j.limit_key,
       (j.flags & 8) | CASE WHEN j.state = 0 THEN 16 ELSE 0 END
  FROM json_each(:told) o CROSS JOIN coserver_job j
 WHERE j.id = json_extract(o.value, '$[0]')
