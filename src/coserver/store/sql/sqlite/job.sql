-- All of one job, living or finished, its large parts included. Text as bytes: plain SQL may have put in what is not
-- UTF-8, and it is to be shown all the same.
SELECT i.*,
       (SELECT p.fraction FROM coserver_progress p WHERE p.job = i.id),
       (SELECT p.note FROM coserver_progress p WHERE p.job = i.id),
       (SELECT json_group_array(tag) FROM (SELECT t.tag FROM coserver_tag t WHERE t.job = i.id ORDER BY t.tag)),
       (SELECT json_group_array(parent) FROM (SELECT e.parent FROM coserver_dep e WHERE e.child = i.id ORDER BY e.place)),
       (SELECT json_group_array(child) FROM (SELECT DISTINCT e.child FROM coserver_dep e WHERE e.parent = i.id ORDER BY e.child LIMIT 1000))
  FROM (
    SELECT j.id AS id, CAST(j.task AS BLOB), CAST(j.queue AS BLOB), j.state, j.priority,
           CAST(coalesce(j.args, (SELECT data FROM coserver_blob WHERE job = j.id AND kind = 0)) AS BLOB),
           j.attempt, j.crashes, j.created_at, j.run_at, j.claimed_at, NULL,
           (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL, CAST(j.error AS BLOB),
           j.flags, j.begin_by, CAST(j.unique_key AS BLOB), CAST(j.limit_key AS BLOB), CAST(j.blocked_on AS BLOB), CAST(j.options AS BLOB)
      FROM coserver_job j
     WHERE j.id = :id
    UNION ALL
    SELECT d.id, CAST(d.task AS BLOB), CAST(d.queue AS BLOB), d.state, d.priority,
           CAST(coalesce(d.args, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 0)) AS BLOB),
           d.attempt, d.crashes, d.created_at, d.run_at, d.started_at, d.finished_at,
           (SELECT process FROM coserver_worker w WHERE w.id = d.worker),
           CAST(coalesce(d.result, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 1)) AS BLOB),
           CAST(d.error AS BLOB),
           0, NULL, CAST(d.unique_key AS BLOB), CAST(d.limit_key AS BLOB), NULL, CAST(d.options AS BLOB)
      FROM coserver_done d
     WHERE d.id = :id
  ) i
