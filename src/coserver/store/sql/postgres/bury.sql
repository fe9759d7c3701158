-- The workers of a process that the kernel says is dead. An estate already open keeps what is known of it.
UPDATE coserver_worker
   SET state = 1, parked = 0, started = %(started)s::text, note = %(note)s::text,
       ended_at = (date_part('epoch', clock_timestamp()) * 1000000)::bigint
 WHERE token = %(token)s::text AND state = 0
