-- New rows from plain SQL whose task some worker has made known, in the order in which they came. Every such task has
-- the same share of the limit and gives its best (of more tasks than that, those whose best is oldest); the last column
-- says whether a task has used up its share, and so may have more.
-- What is certainly too large is not even read. Large arguments of jobs that were submitted for a task that nobody knew
-- lie beside them already.
WITH waiting AS MATERIALIZED (
    SELECT t.name, t.queue FROM coserver_task t,
           LATERAL (SELECT 1 FROM coserver_job n WHERE n.state = 0 AND n.task = t.name LIMIT 1) found
), share AS MATERIALIZED (
    SELECT greatest(%(limit)s::integer / greatest(count(*), 1), 1) AS n FROM waiting
), best AS MATERIALIZED (
    SELECT j.id, w.queue, row_number() OVER (PARTITION BY w.name ORDER BY j.priority, j.id) AS turn
      FROM waiting w, LATERAL (
           SELECT n.id, n.priority FROM coserver_job n
            WHERE n.state = 0 AND n.task = w.name
            ORDER BY n.priority, n.id LIMIT (SELECT s.n FROM share s)
              FOR UPDATE SKIP LOCKED) j
     ORDER BY j.id LIMIT %(limit)s::integer
)
SELECT j.id, j.queue, b.queue, j.priority, j.run_at,
       CASE WHEN octet_length(j.args) <= %(cap)s::bigint THEN j.args
            WHEN j.args IS NULL THEN (SELECT d.data FROM coserver_blob d WHERE d.job = j.id AND d.kind = 0) END,
       j.args IS NULL AND NOT EXISTS (SELECT 1 FROM coserver_blob d WHERE d.job = j.id AND d.kind = 0),
       j.options, j.unique_key, j.limit_key, b.turn >= (SELECT s.n FROM share s)
  FROM best b, coserver_job j WHERE j.id = ANY (ARRAY[b.id]) AND j.state + 0 = 0
 ORDER BY j.id
