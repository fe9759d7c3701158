-- The queues that workers say their tasks belong to.
SELECT name, queue FROM coserver_task WHERE name = ANY (%(names)s::text[])
