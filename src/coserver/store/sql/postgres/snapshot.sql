-- What transactions are under way and which will be next: it changes with every commit that becomes visible.
SELECT pg_current_snapshot()::text
