-- Wait no longer than this (ms) for any lock in this transaction.
SELECT set_config('lock_timeout', %(ms)s::integer::text, true)
