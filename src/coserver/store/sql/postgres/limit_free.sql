-- Slots are free again.
DELETE FROM coserver_slot WHERE id = ANY (%(slots)s::bigint[])
