-- Forget incarnations that ended long ago.
DELETE FROM coserver_worker
 WHERE id = ANY (ARRAY(SELECT id FROM coserver_worker
                        WHERE state = 2
                          AND ended_at < (date_part('epoch', now()) * 1000000)::bigint - %(age)s::bigint
                        ORDER BY ended_at LIMIT %(limit)s::integer FOR UPDATE SKIP LOCKED))
