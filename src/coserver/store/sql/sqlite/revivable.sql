-- Of these, the finished jobs that did not succeed.
SELECT id, coalesce(queue, ''), state FROM coserver_done
 WHERE id IN (SELECT value FROM json_each(:ids)) AND state > 10 ORDER BY id
