-- Which of these jobs are finished, and under which claim.
SELECT id, claim, state FROM coserver_done WHERE id IN (SELECT value FROM json_each(:ids))
