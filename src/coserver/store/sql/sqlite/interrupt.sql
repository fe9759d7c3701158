-- Hand running jobs back as they were, slots and all, with a word on why. `told` is a JSON array of [id, error].
UPDATE coserver_job AS j SET state = 5, worker = NULL, claimed_at = NULL, error = json_extract(o.value, '$[1]')
  FROM json_each(:told) o WHERE j.id = json_extract(o.value, '$[0]') AND j.state = 6
