-- All of one job, living or finished, its large parts included. `+ 0`: children are found by their parent, not in the
-- order of all ids.
SELECT i.*,
       (SELECT p.fraction FROM coserver_progress p WHERE p.job = i.id),
       (SELECT p.note FROM coserver_progress p WHERE p.job = i.id),
       (SELECT coalesce(json_agg(x.tag), '[]')::text
          FROM (SELECT t.tag FROM coserver_tag t WHERE t.job = i.id ORDER BY t.tag) x),
       (SELECT coalesce(json_agg(x.parent), '[]')::text
          FROM (SELECT e.parent FROM coserver_dep e WHERE e.child = i.id ORDER BY e.place) x),
       (SELECT coalesce(json_agg(x.child), '[]')::text
          FROM (SELECT DISTINCT e.child + 0 AS child FROM coserver_dep e WHERE e.parent = i.id ORDER BY 1 LIMIT 1000) x)
  FROM (
    SELECT j.id AS id, j.task, j.queue, j.state, j.priority,
           coalesce(j.args, (SELECT data FROM coserver_blob WHERE job = j.id AND kind = 0)),
           j.attempt, j.crashes, j.created_at, j.run_at, j.claimed_at, NULL::bigint,
           (SELECT process FROM coserver_worker w WHERE w.id = j.worker), NULL::text, j.error,
           j.flags, j.begin_by, j.unique_key, j.limit_key, j.blocked_on, j.options
      FROM coserver_job j
     WHERE j.id = %(id)s::bigint
    UNION ALL
    SELECT d.id, d.task, d.queue, d.state, d.priority,
           coalesce(d.args, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 0)),
           d.attempt, d.crashes, d.created_at, d.run_at, d.started_at, d.finished_at,
           (SELECT process FROM coserver_worker w WHERE w.id = d.worker),
           coalesce(d.result, (SELECT data FROM coserver_blob WHERE job = d.id AND kind = 1)), d.error,
           0, NULL::bigint, d.unique_key, d.limit_key, NULL::text, d.options
      FROM coserver_done d
     WHERE d.id = %(id)s::bigint
  ) i
