-- Somebody has to look at these limits, now or later.
INSERT INTO coserver_gate (key, at) SELECT value, :at FROM json_each(:keys)
