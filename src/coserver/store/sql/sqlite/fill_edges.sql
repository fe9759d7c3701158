-- Write the ends of parents on the edges to their children. `told` is a JSON array of [parent, state, result, error].
UPDATE coserver_dep AS d
   SET state = json_extract(o.value, '$[1]'), result = json_extract(o.value, '$[2]'),
       error = json_extract(o.value, '$[3]')
  FROM json_each(:told) o WHERE d.parent = json_extract(o.value, '$[0]') AND d.state IS NULL
RETURNING child, parent, on_end, state
