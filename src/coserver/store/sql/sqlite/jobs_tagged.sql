-- `jobs` by a tag: along its index.
SELECT * FROM (
    SELECT @living
      FROM coserver_tag t CROSS JOIN coserver_job j ON j.id = t.job
     WHERE t.tag = :tag AND t.job < coalesce(:before, 9223372036854775807) AND @wanted
     ORDER BY t.job DESC LIMIT :limit)
UNION ALL
SELECT * FROM (
    SELECT @finished
      FROM coserver_tag t CROSS JOIN coserver_done j ON j.id = t.job
     WHERE t.tag = :tag AND t.job < coalesce(:before, 9223372036854775807) AND @wanted
     ORDER BY t.job DESC LIMIT :limit)
ORDER BY 1 DESC LIMIT :limit
