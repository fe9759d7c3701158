-- What the slots of these limits are taken by: held ones, those of jobs that have not begun, starts since a moment (none
-- counts where it is NULL); and whether anybody waits. Starts that lie in the future by more than a period (the clock was
-- set back) do not count.
SELECT k.key, h.held, h.unstarted,
       h.recent + (SELECT count(*) FROM coserver_slot s
                    WHERE s.key = k.key AND s.started_at >= k.since AND s.started_at <= 2 * %(now)s::bigint - k.since),
       (SELECT count(*) FROM (SELECT 1 FROM coserver_job w WHERE w.state = 3 AND w.blocked_on = k.key LIMIT 1) w)
  FROM unnest(%(keys)s::text[], %(sinces)s::bigint[]) AS k (key, since),
       LATERAL (SELECT count(*) AS held,
                       count(*) FILTER (WHERE j.state <> 6) AS unstarted,
                       count(*) FILTER (WHERE j.state = 6 AND j.claimed_at >= k.since
                                          AND j.claimed_at <= 2 * %(now)s::bigint - k.since) AS recent
                  FROM coserver_slot s, LATERAL (SELECT * FROM coserver_job j WHERE j.id = ANY (ARRAY[s.job])) j
                 WHERE s.key = k.key AND s.started_at IS NULL) h
