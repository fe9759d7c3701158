-- Write one of the store's own settings.
INSERT INTO coserver_meta (key, value) VALUES (%(key)s::text, %(value)s::text)
ON CONFLICT (key) DO UPDATE SET value = excluded.value
