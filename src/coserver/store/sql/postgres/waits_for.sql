-- Does a job wait for another, directly or through others? `coalesce` keeps the planner from the index of all edges whose
-- parents have not ended.
WITH RECURSIVE above (id) AS (
    SELECT %(id)s::bigint
    UNION
    SELECT d.parent FROM above a CROSS JOIN LATERAL (
           SELECT p.parent FROM coserver_dep p WHERE p.child = a.id AND coalesce(p.state, 0) = 0 OFFSET 0) d
)
SELECT 1 FROM above WHERE id = %(other)s::bigint LIMIT 1
