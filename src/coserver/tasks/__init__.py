"""What applications declare and submit: tasks, their arguments, and the handles of their jobs.

Nothing here knows a database. A submit goes to a `Submitter` (see `binding`), which `coserver.client` is; results come
back through it. Each file holds one subject and is imported by its own name; applications import from `coserver`.
"""
