-- These limits are being looked at.
DELETE FROM coserver_gate WHERE key IN (SELECT value FROM json_each(:keys)) RETURNING key
