-- Which of these running jobs this worker holds, with the claim that it must name.
SELECT id, claim FROM coserver_job
 WHERE id IN (SELECT value FROM json_each(:ids)) AND worker = :worker AND state = 6 AND flags = 0
