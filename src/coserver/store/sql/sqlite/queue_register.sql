-- Make queues known.
INSERT INTO coserver_queue (name) SELECT value FROM json_each(:names) WHERE true ON CONFLICT DO NOTHING
