-- The nth of the starts since a moment that count for a limit.
SELECT started FROM (
    SELECT j.claimed_at AS started FROM coserver_slot s CROSS JOIN coserver_job j ON j.id = s.job
     WHERE s.key = :key AND s.started_at IS NULL AND j.state = 6
    UNION ALL
    SELECT s.started_at FROM coserver_slot s WHERE s.key = :key AND s.started_at IS NOT NULL)
 WHERE started >= :since AND started <= 2 * :now - :since
 ORDER BY 1 LIMIT 1 OFFSET :n - 1
