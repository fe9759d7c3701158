-- Forget finished jobs of one state past their retention, and their large parts.
WITH old AS MATERIALIZED (
    SELECT id FROM coserver_done
     WHERE state = %(state)s::smallint
       AND finished_at < (date_part('epoch', now()) * 1000000)::bigint - %(age)s::bigint
     ORDER BY finished_at LIMIT %(limit)s::integer
       FOR UPDATE SKIP LOCKED
), blobs AS (
    DELETE FROM coserver_blob b USING old WHERE b.job = ANY (ARRAY[old.id])
)
DELETE FROM coserver_done d USING old WHERE d.id = ANY (ARRAY[old.id])
RETURNING d.id
