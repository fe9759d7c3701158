-- Of these, the finished jobs that did not succeed.
SELECT id, CAST(coalesce(queue, '') AS BLOB), state FROM coserver_done
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state > 10 ORDER BY id
