-- The nth of the starts since a moment that count for a limit.
SELECT started FROM (
    SELECT j.claimed_at AS started
      FROM coserver_slot s, LATERAL (SELECT * FROM coserver_job j WHERE j.id = ANY (ARRAY[s.job])) j
     WHERE s.key = %(key)s::text AND s.started_at IS NULL AND j.state + 0 = 6
    UNION ALL
    SELECT s.started_at FROM coserver_slot s WHERE s.key = %(key)s::text AND s.started_at IS NOT NULL) AS counted
 WHERE started >= %(since)s::bigint AND started <= 2 * %(now)s::bigint - %(since)s::bigint
 ORDER BY 1 LIMIT 1 OFFSET %(n)s::integer - 1
