-- These limits are being looked at.
DELETE FROM coserver_gate WHERE key = ANY (%(keys)s::text[]) RETURNING key
