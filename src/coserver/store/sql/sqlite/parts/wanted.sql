-- Whether a job `j` is one of those that a listing wants. A NULL filter restricts nothing; parts of texts are found
-- whatever the case of their letters from A to Z.
(:states IS NULL OR j.state IN (SELECT value FROM json_each(:states)))
AND (:queue IS NULL OR j.queue = :queue) AND (:task IS NULL OR j.task = :task)
AND (:since IS NULL OR j.created_at >= :since) AND (:until IS NULL OR j.created_at < :until)
AND (:error IS NULL OR instr(lower(j.error), lower(:error)) > 0)
AND (:args IS NULL OR instr(lower(coalesce(
         j.args, (SELECT data FROM coserver_blob WHERE job = j.id AND kind = 0))), lower(:args)) > 0)
