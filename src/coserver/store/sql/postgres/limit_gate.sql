-- Somebody has to look at these limits, now or later.
INSERT INTO coserver_gate (key, at) SELECT k.key, %(at)s::bigint FROM unnest(%(keys)s::text[]) AS k (key)
