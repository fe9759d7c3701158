-- The second half of `route_blob`.
UPDATE coserver_job SET args = NULL WHERE id = ?1
