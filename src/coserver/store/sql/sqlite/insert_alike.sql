-- Store new jobs that are alike but for their arguments, under the ids from `first` on; `args` is a JSON array of their
-- texts. One statement for all, because every statement writes the counter of the ids anew.
INSERT INTO coserver_job (id, state, priority, seq, max_crashes, created_at, run_at, queue, task, args, options)
SELECT :first + key, :state, :priority, :first + key, :max_crashes, :now, :run_at, :queue, :task, value, :options
  FROM json_each(:args)
