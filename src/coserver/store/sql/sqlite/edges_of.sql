-- For what these jobs wait or waited, and how that ended.
SELECT child, place, parent, on_end, state FROM coserver_dep
 WHERE child IN (SELECT value FROM json_each(:ids)) AND on_end < 3 ORDER BY child, place
