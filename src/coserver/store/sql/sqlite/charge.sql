-- Charge failed attempts and schedule the jobs anew. `told` is a JSON array of [id, run_at, error]; run_at NULL: at once,
-- for `limits.enter` to go on.
UPDATE coserver_job AS j
   SET state = 4, run_at = coalesce(json_extract(o.value, '$[1]'), run_at), seq = NULL, attempt = attempt + 1,
       error = json_extract(o.value, '$[2]'), worker = NULL, claimed_at = NULL
  FROM json_each(:told) o WHERE j.id = json_extract(o.value, '$[0]')
