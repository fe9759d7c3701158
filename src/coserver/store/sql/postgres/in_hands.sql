-- Which of these living jobs are in somebody's hands just now.
WITH free AS MATERIALIZED (
    SELECT id FROM coserver_job WHERE id = ANY (%(ids)s::bigint[]) FOR UPDATE SKIP LOCKED
)
SELECT j.id FROM coserver_job j
 WHERE j.id = ANY (%(ids)s::bigint[]) AND j.id <> ALL (ARRAY(SELECT id FROM free))
