-- Jobs in line in a queue with a limit that have no slot of it go and wait for one: those that were there when the limit was
-- declared.
UPDATE coserver_job SET state = 3, blocked_on = 'queue:' || queue
 WHERE id IN (SELECT j.id FROM coserver_limit l CROSS JOIN coserver_job j
               WHERE l.name >= 'queue:' AND l.name < 'queue;' AND j.state = 5 AND j.crashes = 0 AND j.queue = substr(l.name, 7)
                 AND NOT EXISTS (SELECT 1 FROM coserver_slot s WHERE s.job = j.id AND s.key = l.name)
              UNION ALL
              SELECT j.id FROM coserver_limit l CROSS JOIN coserver_job j
               WHERE l.name >= 'queue:' AND l.name < 'queue;' AND j.state = 5 AND j.crashes > 0 AND j.queue = substr(l.name, 7)
                 AND NOT EXISTS (SELECT 1 FROM coserver_slot s WHERE s.job = j.id AND s.key = l.name)
               LIMIT :limit)
RETURNING id, blocked_on
