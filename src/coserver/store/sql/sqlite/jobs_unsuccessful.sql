-- `jobs` for ended ones that did not succeed: by an index of their own, however many did.
SELECT d.id, CAST(d.task AS BLOB), CAST(d.queue AS BLOB), d.state, d.priority, CAST(d.args AS BLOB), d.attempt,
       d.crashes, d.created_at, d.run_at, d.started_at, d.finished_at,
       (SELECT process FROM coserver_worker w WHERE w.id = d.worker), CAST(d.result AS BLOB), CAST(d.error AS BLOB)
  FROM coserver_done d INDEXED BY coserver_done_unsuccessful
 WHERE d.id < coalesce(:before, 9223372036854775807)
   AND d.state > 10
   AND d.state IN (SELECT value FROM json_each(:states))
   AND (:queue IS NULL OR d.queue = :queue) AND (:task IS NULL OR d.task = :task)
   AND (:since IS NULL OR d.created_at >= :since) AND (:until IS NULL OR d.created_at < :until)
   AND (:error IS NULL OR instr(lower(d.error), lower(:error)) > 0)
   AND (:args IS NULL OR instr(lower(coalesce(
            d.args, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 0))), lower(:args)) > 0)
 ORDER BY d.id DESC LIMIT :limit
