-- Edges of the graph. `told` is a JSON array of [child, place, parent, on_end, state, result, error]; a NULL place is the
-- next one of its child.
INSERT INTO coserver_dep (child, place, parent, on_end, state, result, error)
SELECT json_extract(o.value, '$[0]'),
       coalesce(json_extract(o.value, '$[1]'),
                (SELECT coalesce(max(place), -1) + 1 FROM coserver_dep WHERE child = json_extract(o.value, '$[0]'))),
       json_extract(o.value, '$[2]'), json_extract(o.value, '$[3]'), json_extract(o.value, '$[4]'),
       json_extract(o.value, '$[5]'), json_extract(o.value, '$[6]')
  FROM json_each(:told) o
