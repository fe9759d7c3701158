-- `jobs` for ended ones that did not succeed: by an index of their own, however many did.
SELECT @finished
  FROM coserver_done j
 WHERE j.id < coalesce(%(before)s::bigint, 9223372036854775807) AND j.state > 10 AND @wanted
 ORDER BY j.id DESC LIMIT %(limit)s::integer
