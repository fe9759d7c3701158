-- Make queues known.
INSERT INTO coserver_queue (name) SELECT unnest(%(names)s::text[]) ORDER BY 1 ON CONFLICT DO NOTHING
