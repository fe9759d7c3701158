-- Put finished jobs back among the living, with a fresh budget, all but those whose unique key a living job has. One that
-- nobody has found in order starts as new. The claim number goes on, so that a finish from a former life fits nothing.
INSERT INTO coserver_job (id, state, priority, claim, max_crashes, created_at, queue, task, args, options, unique_key,
                          limit_key, flags)
SELECT id, CASE WHEN flags & 16 = 0 OR EXISTS (SELECT 1 FROM coserver_dep e WHERE e.child = d.id) THEN 2 ELSE 0 END,
       priority, claim, max_crashes, created_at, queue, task, args, options, unique_key, limit_key, flags & 8
  FROM coserver_done d WHERE id IN (SELECT value FROM json_each(:ids)) ORDER BY id
ON CONFLICT (unique_key) WHERE unique_key IS NOT NULL DO NOTHING
RETURNING id, state
