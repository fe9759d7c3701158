-- Slots are free again.
DELETE FROM coserver_slot WHERE id IN (SELECT value FROM json_each(:slots))
