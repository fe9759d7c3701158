-- Keep how far running jobs say they are, where the fence fits. `told` is a JSON array of [id, claim, fraction, note].
INSERT INTO coserver_progress (job, claim, fraction, note, at)
SELECT j.id, j.claim, json_extract(o.value, '$[2]'), json_extract(o.value, '$[3]'), :now
  FROM json_each(:told) o CROSS JOIN coserver_job j
 WHERE j.id = json_extract(o.value, '$[0]') AND j.claim = json_extract(o.value, '$[1]') AND j.worker = :worker AND j.state = 6
ON CONFLICT (job) DO UPDATE SET claim = excluded.claim, fraction = excluded.fraction, note = excluded.note, at = excluded.at
