-- Which tables this connection means: the table of jobs on its search path (NULL: none), its database, and since when its
-- server runs, which no two servers have in common, whatever their addresses. SQLite compares files.
SELECT to_regclass('coserver_job')::oid::bigint, d.oid::bigint,
       (date_part('epoch', pg_postmaster_start_time()) * 1000000)::bigint, d.datname
  FROM pg_database d WHERE d.datname = current_database()
