-- Jobs of this queue are taken again.
UPDATE coserver_queue SET paused_at = NULL, paused_by = NULL WHERE name = :queue AND paused_at IS NOT NULL RETURNING name
