-- One at a time lets a job take over from another, or two of them could close a circle.
SELECT pg_advisory_xact_lock(hashtextextended('coserver graph', 0))
