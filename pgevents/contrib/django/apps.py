"""The app: what happens when Django starts."""

from typing import Any

from django.apps import AppConfig
from django.core.signals import request_started
from django.db.models.signals import post_migrate
from django.utils.module_loading import autodiscover_modules

from ...errors import PgEventsError
from ...listening.target import translate
from .checks import register_all
from .config import Config
from .databases import hub, logger, start_with_first_request
from .migrating import let_migrations_alter
from .targets import target_of


class PgEventsConfig(AppConfig):  # type: ignore[misc]
    """Finds the listeners, and starts nothing: that is for the first request."""

    name = "pgevents.contrib.django"
    label = "pgevents"
    verbose_name = "pgevents"

    def ready(self) -> None:
        config = Config()
        register_all()
        translate(target_of)
        autodiscover_modules(config.events_module)
        let_migrations_alter(config.databases)
        post_migrate.connect(install_after_migrations, sender=self)
        if config.start == "serving":
            request_started.connect(start_with_first_request, dispatch_uid="pgevents")


def install_after_migrations(using: str, **_: Any) -> None:
    """Install the triggers of the models that the migrations have made, or altered.

    Test databases have them so before a TestCase begins its transaction.
    """
    config = Config()
    if using not in config.databases or not config.options.get("install", True):
        return
    try:
        hub(using).install()
    except PgEventsError as error:
        # No migration fails for that: a hub tries again when it starts.
        logger.warning("no triggers are installed in the database %r: %s", using, error)
