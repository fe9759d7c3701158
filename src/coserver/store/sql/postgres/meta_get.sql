-- One value of the store's own settings.
SELECT value FROM coserver_meta WHERE key = %(key)s::text
