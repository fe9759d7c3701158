"""Tasks that need no code: call a web service, an XML-RPC server, a program, a function on a ZODB.

They are ordinary tasks in modules of their own, which worker services name in `tasks` as plugins (`@generic`,
`@http-call` …; see `coserver.runtime.loading`). Whoever may submit jobs may have such a worker do what they can do, so
none is there unless a service asks for it. Arguments lie readable in the store; they are no place for secrets.
"""
