"""`manage.py coserver …`: the command `coserver` for the site of this project, with the settings' store."""

from __future__ import annotations

import os
import sys
from typing import Any

from django.core.management.base import BaseCommand

from coserver.config.load import DEFAULT_STORE
from coserver.contrib.django.database import database_url
from coserver.errors import NotConfigured


class Command(BaseCommand):
    """Becomes `coserver`, so that everything it prints and returns is its own."""

    help = "Run the command coserver, with the store of these settings: manage.py coserver up"
    requires_system_checks: list[str] = []  # noqa: RUF012 - Django's own way

    def run_from_argv(self, argv: list[str]) -> None:
        """Take every word after the verb as it is; Django's own options are for manage.py."""
        self.handle(*argv[2:])

    def handle(self, *words: str, **_options: Any) -> None:
        """Replace this process."""
        environ = dict(os.environ)
        if environ.get("COSERVER_STORE"):
            environ.setdefault(DEFAULT_STORE, environ["COSERVER_STORE"])
        else:
            try:
                environ.setdefault(DEFAULT_STORE, database_url())
            except NotConfigured:
                pass  # the site's files may name one
        sys.stdout.flush()
        sys.stderr.flush()
        os.execve(sys.executable, [sys.executable, "-m", "coserver", *words], environ)
