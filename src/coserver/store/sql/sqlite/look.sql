-- What a worker has to know before it claims: is it live (and parked), is anything to be routed, when is the first
-- scheduled job due or the first not begun in time, is a dead worker's estate open, does a job wait that has killed workers, when has
-- somebody to look at a limit, and which queues are paused.
SELECT (SELECT parked FROM coserver_worker WHERE id = :worker AND state = 0),
       EXISTS (SELECT 1 FROM coserver_job WHERE state = 0)
           AND EXISTS (SELECT 1 FROM coserver_task t
                        WHERE EXISTS (SELECT 1 FROM coserver_job j WHERE j.state = 0 AND j.task = t.name)),
       (SELECT min(at) FROM (SELECT min(run_at) AS at FROM coserver_job WHERE state = 4
                             UNION ALL
                             SELECT min(begin_by) FROM coserver_job
                              WHERE @may_expire)),
       EXISTS (SELECT 1 FROM coserver_worker w
                WHERE state = 1
                   OR (state = 0 AND id <> :worker
                       AND (boot <> :boot_id
                            OR (lease_until < :boot
                                AND EXISTS (SELECT 1 FROM coserver_worker s
                                            WHERE s.state = 0 AND s.boot = :boot_id AND s.steady_since + w.lease <= :boot
                                              AND s.lease_until - s.lease / 2 >= :boot))))),
       EXISTS (SELECT 1 FROM coserver_job WHERE state = 5 AND crashes > 0),
       (SELECT min(at) FROM coserver_gate),
       (SELECT json_group_array(name) FROM coserver_queue WHERE paused_at IS NOT NULL)
