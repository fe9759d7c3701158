-- Put finished jobs back among the living, with a fresh budget, all but those whose unique key a living job has. One that
-- was refused when routed starts as new. The claim number goes on, so that a finish from a former life fits nothing.
INSERT INTO coserver_job (id, state, priority, claim, max_crashes, created_at, queue, task, args, options, unique_key,
                          limit_key)
SELECT id, CASE WHEN state = 11 AND claim = 0 THEN 0 ELSE 2 END, priority, claim, max_crashes, created_at, queue, task,
       args, options, unique_key, limit_key
  FROM coserver_done WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id, state
