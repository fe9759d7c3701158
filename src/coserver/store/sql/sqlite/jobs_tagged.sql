-- `jobs` by a tag: along its index.
SELECT * FROM (
    SELECT j.id, CAST(j.task AS BLOB), CAST(j.queue AS BLOB), j.state, j.priority, CAST(j.args AS BLOB), j.attempt,
           j.crashes, j.created_at, j.run_at, j.claimed_at, NULL,
           (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL, CAST(j.error AS BLOB)
      FROM coserver_tag t CROSS JOIN coserver_job j ON j.id = t.job
     WHERE t.tag = :tag AND t.job < coalesce(:before, 9223372036854775807)
       AND (:states IS NULL OR j.state IN (SELECT value FROM json_each(:states)))
       AND (:queue IS NULL OR j.queue = :queue) AND (:task IS NULL OR j.task = :task)
       AND (:since IS NULL OR j.created_at >= :since) AND (:until IS NULL OR j.created_at < :until)
       AND (:error IS NULL OR instr(lower(j.error), lower(:error)) > 0)
       AND (:args IS NULL OR instr(lower(coalesce(
                j.args, (SELECT data FROM coserver_blob WHERE job = j.id AND kind = 0))), lower(:args)) > 0)
     ORDER BY t.job DESC LIMIT :limit)
UNION ALL
SELECT * FROM (
    SELECT d.id, CAST(d.task AS BLOB), CAST(d.queue AS BLOB), d.state, d.priority, CAST(d.args AS BLOB), d.attempt,
           d.crashes, d.created_at, d.run_at, d.started_at, d.finished_at,
           (SELECT process FROM coserver_worker w WHERE w.id = d.worker), CAST(d.result AS BLOB), CAST(d.error AS BLOB)
      FROM coserver_tag t CROSS JOIN coserver_done d ON d.id = t.job
     WHERE t.tag = :tag AND t.job < coalesce(:before, 9223372036854775807)
       AND (:states IS NULL OR d.state IN (SELECT value FROM json_each(:states)))
       AND (:queue IS NULL OR d.queue = :queue) AND (:task IS NULL OR d.task = :task)
       AND (:since IS NULL OR d.created_at >= :since) AND (:until IS NULL OR d.created_at < :until)
       AND (:error IS NULL OR instr(lower(d.error), lower(:error)) > 0)
       AND (:args IS NULL OR instr(lower(coalesce(
                d.args, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 0))), lower(:args)) > 0)
     ORDER BY t.job DESC LIMIT :limit)
ORDER BY 1 DESC LIMIT :limit
