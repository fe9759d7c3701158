-- Does a job wait for another, directly or through others?
WITH RECURSIVE above (id) AS (
    SELECT %(id)s::bigint
    UNION
    SELECT d.parent FROM above a CROSS JOIN LATERAL (
           SELECT p.parent FROM coserver_dep p WHERE p.child = a.id AND p.state IS NULL) d
)
SELECT 1 FROM above WHERE id = %(other)s::bigint LIMIT 1
