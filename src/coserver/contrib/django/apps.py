"""The Django app: binds submits of the process to the store."""

from __future__ import annotations

from django.apps import AppConfig


class CoserverConfig(AppConfig):
    """`coserver.contrib.django` in INSTALLED_APPS."""

    name = "coserver.contrib.django"
    label = "coserver"
    verbose_name = "Jobs"

    def ready(self) -> None:
        """Bind. Nothing is opened before the first submit."""
        from coserver.contrib.django.database import bind

        bind()
