-- Which of these finished jobs may be put back: those that did not succeed. Text as bytes: whether it is UTF-8 does not
-- matter here.
SELECT id, CAST(queue AS BLOB), state, claim FROM coserver_done
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state > 10 ORDER BY id
