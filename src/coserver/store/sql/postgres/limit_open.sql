-- Everything is counted: new limits let jobs in.
UPDATE coserver_limit SET closed = 0 WHERE closed <> 0 RETURNING name
