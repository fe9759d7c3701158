-- Jobs are over or start anew, but their starts count for a rate.
UPDATE coserver_slot
   SET job = NULL, started_at = (SELECT json_extract(:starts, '$[' || o.key || ']') FROM json_each(:slots) o
                                  WHERE o.value = coserver_slot.id)
 WHERE id IN (SELECT value FROM json_each(:slots))
