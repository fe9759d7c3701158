-- Nobody takes jobs of this queue; who was the first to say so stays.
INSERT INTO coserver_queue (name, paused_at, paused_by) VALUES (:queue, :now, :by)
ON CONFLICT (name) DO UPDATE SET paused_at = excluded.paused_at, paused_by = excluded.paused_by WHERE paused_at IS NULL
