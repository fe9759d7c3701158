-- The living jobs that have these unique keys.
SELECT unique_key, id FROM coserver_job
 WHERE unique_key IS NOT NULL AND unique_key IN (SELECT value FROM json_each(:keys))
