-- For how many parents children still wait. `told` is a JSON array of [id, waits].
UPDATE coserver_job AS j SET waits = json_extract(o.value, '$[1]')
  FROM json_each(:told) o WHERE j.id = json_extract(o.value, '$[0]')
