-- Take places at the end of the line.
SELECT nextval('coserver_seq') FROM generate_series(1, %(n)s::integer)
