-- Does a job wait for another, directly or through others?
WITH RECURSIVE above (id) AS (
    SELECT :id
    UNION
    SELECT d.parent FROM above a CROSS JOIN coserver_dep d ON d.child = a.id AND d.state IS NULL
)
SELECT 1 FROM above WHERE id = :other LIMIT 1
