"""Django: its database as the store, its transactions around submits, its connections around jobs.

    INSTALLED_APPS = [..., "coserver.contrib.django"]       # settings.py

    [app]                                                    # coserver.toml
    setup = "coserver.contrib.django:setup"

Theory. A Django project has a database already, and jobs belong beside the rows that they are about. So unless
COSERVER_STORE or the site's files name a store, it is the database `settings.COSERVER_DATABASE` ("default"):
PostgreSQL, or SQLite through Python's own library, since Django uses that (see `store.one_library`).

A submit inside `transaction.atomic()` goes through Django's own connection if the store is Django's database: the job
comes with the commit and goes with a rollback, also one to a savepoint. It has to be so, not merely may: on SQLite the
transaction holds the file, and a submit on a connection of our own would wait for it in vain. Outside of a transaction,
and in coroutines, where Django has none, a submit is committed when it returns.

`manage.py migrate` makes the tables, by the same migrations as `coserver db migrate`: whoever comes second finds
nothing to do. `manage.py coserver …` is the command `coserver` with the settings' store. Around every job stale
connections are closed, as around every request.
"""

from __future__ import annotations

import os

from coserver.errors import UsageError

__all__ = ["setup"]


def setup() -> None:
    """Set Django up in a process of a site and import the `tasks` module of every installed app.

    For `setup = "coserver.contrib.django:setup"`. Raises `UsageError` when DJANGO_SETTINGS_MODULE is not set.
    """
    from django.apps import apps
    from django.utils.module_loading import autodiscover_modules

    from coserver.contrib.django.connections import AroundJobs
    from coserver.contrib.django.database import bind
    from coserver.tasks import around

    if not os.environ.get("DJANGO_SETTINGS_MODULE"):
        raise UsageError(
            "cannot set Django up: DJANGO_SETTINGS_MODULE is not set; start the site by `python manage.py coserver "
            'up`, or write env = { DJANGO_SETTINGS_MODULE = "…" } under [defaults.service]'
        )
    if not apps.ready:
        import django

        django.setup()
    bind()
    around.active = AroundJobs()
    autodiscover_modules("tasks")
