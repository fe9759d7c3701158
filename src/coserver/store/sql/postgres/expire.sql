-- Notice workers whose lease ran out, while a steady one shows that they could have renewed it: after an outage of the
-- database or of the network to it nobody is dead only because nobody could renew.
UPDATE coserver_worker
   SET state = 1, parked = 0, ended_at = (date_part('epoch', now()) * 1000000)::bigint, note = 'its lease ran out'
 WHERE id = ANY (ARRAY(SELECT w.id FROM coserver_worker w
                        WHERE w.state = 0 AND w.lease_until < date_part('epoch', now()) * 1000000
                          AND w.id <> %(worker)s::bigint
                          AND EXISTS (SELECT 1 FROM coserver_worker s
                                       WHERE s.state = 0 AND s.steady_since + w.lease <= date_part('epoch', now()) * 1000000
                                         AND s.lease_until - s.lease / 2 >= date_part('epoch', now()) * 1000000)
                        FOR UPDATE OF w SKIP LOCKED))
