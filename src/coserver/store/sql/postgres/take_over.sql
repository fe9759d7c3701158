-- A job that ran waits for the one that it returned. What has begun does not expire.
UPDATE coserver_job
   SET state = 2, waits = 1, worker = NULL, claimed_at = %(started_at)s::bigint, begin_by = NULL
 WHERE id = %(id)s::bigint
