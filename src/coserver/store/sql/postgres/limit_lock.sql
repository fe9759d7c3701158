-- Nobody else decides about these limits until the transaction ends. The keys come in the order in which everybody locks
-- them.
SELECT count(*)
  FROM (SELECT pg_advisory_xact_lock(hashtextextended(k.key, 0))::text AS locked
          FROM (SELECT o.key FROM unnest(%(keys)s::text[]) WITH ORDINALITY AS o (key, n) ORDER BY o.n) k
        OFFSET 0) l
