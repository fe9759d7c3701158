-- Make a queue known.
INSERT INTO coserver_queue (name) VALUES (?1) ON CONFLICT DO NOTHING
