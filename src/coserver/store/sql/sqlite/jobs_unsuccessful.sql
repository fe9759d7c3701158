-- `jobs` for ended ones that did not succeed: by an index of their own, however many did.
SELECT @finished
  FROM coserver_done j INDEXED BY coserver_done_unsuccessful
 WHERE j.id < coalesce(:before, 9223372036854775807) AND j.state > 10 AND @wanted
 ORDER BY j.id DESC LIMIT :limit
