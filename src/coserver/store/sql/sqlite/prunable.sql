-- Finished jobs of one state past their retention.
SELECT id FROM coserver_done WHERE state = :state AND finished_at < :before ORDER BY finished_at LIMIT :limit
