-- Tell whoever listens that somebody asked to cancel a running job; the disk need not have it.
SELECT pg_notify('coserver', 'cancel'), set_config('synchronous_commit', 'off', true)
