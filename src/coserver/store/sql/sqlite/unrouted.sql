-- New rows from plain SQL whose task some worker has made known, in the order in which they came. Every such task has
-- the same share of the limit and gives its best (of more tasks than that, those whose best is oldest); the last column
-- says whether a task has used up its share, and so may have more.
-- What is certainly too large is not handed over. Large arguments of jobs that were submitted for a task that nobody knew
-- lie beside them already. Text as bytes: whether it is UTF-8 is for the router to judge.
WITH waiting AS MATERIALIZED (
    SELECT t.name, t.queue FROM coserver_task t
     WHERE EXISTS (SELECT 1 FROM coserver_job n WHERE n.state = 0 AND n.task = t.name)
), share AS MATERIALIZED (
    SELECT max(:limit / max(count(*), 1), 1) AS n FROM waiting
), best AS MATERIALIZED (
    SELECT j.id, w.queue, row_number() OVER (PARTITION BY w.name ORDER BY j.priority, j.id) AS turn
      FROM waiting w CROSS JOIN coserver_job j
     WHERE j.id IN (SELECT n.id FROM coserver_job n INDEXED BY coserver_job_new
                     WHERE n.state = 0 AND n.task = w.name
                     ORDER BY n.priority, n.id LIMIT (SELECT n FROM share))
     ORDER BY j.id LIMIT :limit
)
SELECT j.id, CAST(j.queue AS BLOB), b.queue, j.priority, j.run_at,
       CASE WHEN length(CAST(j.args AS BLOB)) <= :cap THEN CAST(j.args AS BLOB)
            WHEN j.args IS NULL THEN (SELECT d.data FROM coserver_blob d WHERE d.job = j.id AND d.kind = 0) END,
       j.args IS NULL AND NOT EXISTS (SELECT 1 FROM coserver_blob d WHERE d.job = j.id AND d.kind = 0),
       CAST(j.options AS BLOB), CAST(j.unique_key AS BLOB), CAST(j.limit_key AS BLOB), b.turn >= (SELECT n FROM share)
  FROM best b CROSS JOIN coserver_job j ON j.id = b.id
 ORDER BY j.id
