-- Notice workers whose lease ran out.
UPDATE coserver_worker
   SET state = 1, parked = 0, ended_at = (date_part('epoch', now()) * 1000000)::bigint, note = 'its lease ran out'
 WHERE id = ANY (ARRAY(SELECT id FROM coserver_worker
                        WHERE state = 0 AND lease_until < date_part('epoch', now()) * 1000000
                          AND id <> %(worker)s::bigint
                        FOR UPDATE SKIP LOCKED))
