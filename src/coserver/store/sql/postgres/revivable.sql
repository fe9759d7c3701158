-- Which of these finished jobs may be put back: those that did not succeed.
SELECT d.id, d.queue, d.state, d.claim FROM coserver_done d
 WHERE d.id = ANY (%(ids)s::bigint[]) AND d.state > 10 ORDER BY d.id
   FOR UPDATE
