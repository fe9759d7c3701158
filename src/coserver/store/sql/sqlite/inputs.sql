-- How the parents of a job ended, in the order in which they were named.
SELECT parent, state, result, error FROM coserver_dep
 WHERE child = :id AND on_end < 3 AND state IS NOT NULL ORDER BY place
