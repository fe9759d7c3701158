-- Write on edges how their parents ended, or that they have not. `told` is a JSON array of
-- [child, place, state, result, error].
UPDATE coserver_dep AS d
   SET state = json_extract(o.value, '$[2]'), result = json_extract(o.value, '$[3]'),
       error = json_extract(o.value, '$[4]')
  FROM json_each(:told) o
 WHERE d.child = json_extract(o.value, '$[0]') AND d.place = json_extract(o.value, '$[1]')
