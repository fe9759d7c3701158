-- Whether a job `j` is one of those that a listing wants. A NULL filter restricts nothing; parts of texts are found
-- whatever the case of their letters from A to Z, as on SQLite.
(%(states)s::smallint[] IS NULL OR j.state = ANY (%(states)s::smallint[]))
AND (%(queue)s::text IS NULL OR j.queue = %(queue)s::text)
AND (%(task)s::text IS NULL OR j.task = %(task)s::text)
AND (%(since)s::bigint IS NULL OR j.created_at >= %(since)s::bigint)
AND (%(until)s::bigint IS NULL OR j.created_at < %(until)s::bigint)
AND (%(error)s::text IS NULL OR strpos(lower(j.error COLLATE "C"), lower(%(error)s::text COLLATE "C")) > 0)
AND (%(args)s::text IS NULL
     OR strpos(lower(coalesce(
            j.args, (SELECT b.data FROM coserver_blob b WHERE b.job = j.id AND b.kind = 0)) COLLATE "C"),
               lower(%(args)s::text COLLATE "C")) > 0)
