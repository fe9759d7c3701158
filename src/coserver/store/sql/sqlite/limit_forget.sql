-- Starts so long ago that they count for no rate any more.
DELETE FROM coserver_slot
 WHERE id IN (SELECT s.id FROM json_each(:keys) k CROSS JOIN coserver_slot s
               WHERE s.key = k.value AND s.started_at < json_extract(:sinces, '$[' || k.key || ']'))
