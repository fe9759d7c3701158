-- Is there anything that a worker with these queues and tasks could take, or that it should route, promote or free?
SELECT EXISTS (SELECT 1 FROM json_each(:queues) q CROSS JOIN json_each(:tasks) t CROSS JOIN coserver_job j
                WHERE j.state = 5 AND j.crashes = 0 AND j.queue = q.value AND j.task = t.value
                  AND NOT EXISTS (SELECT 1 FROM coserver_queue p WHERE p.name = q.value AND p.paused_at IS NOT NULL))
    OR EXISTS (SELECT 1 FROM json_each(:queues) q CROSS JOIN json_each(:tasks) t CROSS JOIN coserver_job j
                WHERE j.state = 5 AND j.crashes > 0 AND j.queue = q.value AND j.task = t.value
                  AND NOT EXISTS (SELECT 1 FROM coserver_queue p WHERE p.name = q.value AND p.paused_at IS NOT NULL))
    OR EXISTS (SELECT 1 FROM json_each(:tasks) t CROSS JOIN coserver_job j WHERE j.state = 0 AND j.task = t.value)
    OR EXISTS (SELECT 1 FROM coserver_job WHERE state = 4 AND run_at <= :now)
    OR EXISTS (SELECT 1 FROM coserver_job WHERE begin_by <= :now AND @may_expire)
    OR EXISTS (SELECT 1 FROM coserver_gate WHERE at <= :now)
    OR EXISTS (SELECT 1 FROM coserver_worker w
                WHERE state = 1
                   OR (state = 0 AND id <> :worker
                       AND (boot <> :boot_id
                            OR (lease_until < :boot
                                AND EXISTS (SELECT 1 FROM coserver_worker s
                                            WHERE s.state = 0 AND s.boot = :boot_id AND s.steady_since + w.lease <= :boot
                                              AND s.lease_until - s.lease / 2 >= :boot)))))
