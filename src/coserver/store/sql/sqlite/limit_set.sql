-- Declare a limit, or declare it otherwise; a queue's new one lets nobody in until everything is counted.
INSERT INTO coserver_limit (name, running, starts, period, closed) VALUES (:key, :running, :starts, :period, :closed)
ON CONFLICT (name) DO UPDATE SET running = excluded.running, starts = excluded.starts, period = excluded.period
