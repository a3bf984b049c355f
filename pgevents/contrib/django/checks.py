"""What ``manage.py check`` says: what will not work, before it does not."""

from typing import Any, Iterator, List, Optional

from django.core.checks import Tags, Warning, register
from django.db import connections

from ...errors import PgEventsError, Unavailable
from .address import is_in_memory
from .config import Config
from .databases import database, hub


def check_settings(app_configs: Any, **_: Any) -> List[Any]:
    """Look at the settings alone."""
    return [found for alias in Config().databases for found in _of_settings(alias)]


def check_databases(app_configs: Any, databases: Optional[Any] = None, **_: Any) -> List[Any]:
    """Ask the databases, with ``check --database``: are the triggers there?"""
    aliases = [alias for alias in Config().databases if alias in (databases or ())]
    return [found for alias in aliases for found in _of_database(alias)]


def _of_settings(alias: str) -> Iterator[Any]:
    connection = connections[alias]
    if is_in_memory(alias):
        yield Warning(
            f"the database {alias!r} is in memory, where no hub can listen",
            hint="Give it a file.",
            id="pgevents.W001",
        )
    elif connection.vendor == "sqlite" and _has_groups(alias):
        mode = connection.settings_dict["OPTIONS"].get("transaction_mode") or "DEFERRED"
        if mode.upper() not in ("IMMEDIATE", "EXCLUSIVE"):
            yield Warning(
                f"groups write to the SQLite file of {alias!r}, and a transaction that reads"
                ' first, then writes, may fail beside them: "database is locked"',
                hint=f'Set DATABASES[{alias!r}]["OPTIONS"] = {{"transaction_mode": "IMMEDIATE"}}'
                " (Django 5.1 or newer).",
                id="pgevents.W002",
            )


def _has_groups(alias: str) -> bool:
    listeners = database(alias).registry.all()
    return any(listener.group is not None for listener, _ in listeners)


def _of_database(alias: str) -> Iterator[Any]:
    try:
        captured = {row["table"]: row["state"] for row in hub(alias).installed()}
    except Unavailable:
        return  # Django says that itself
    except PgEventsError as error:
        yield Warning(f"the hub of {alias!r} cannot serve: {error}", id="pgevents.W003")
        return
    wanted = {
        listener.target.name
        for listener, _ in database(alias).registry.all()
        if listener.target is not None
    }
    there = {topic.partition(".")[2] for topic in captured}
    hint = "Run manage.py pgevents install."
    made = set(connections[alias].introspection.table_names())  # those to come: migrate installs
    for table in sorted((wanted & made) - there):
        yield Warning(f"the table {table} has no triggers", hint=hint, id="pgevents.W004")
    for topic, state in captured.items():
        if state != "ok":
            yield Warning(f"the triggers of {topic} are {state}", hint=hint, id="pgevents.W005")


def register_all() -> None:
    """Let Django run them."""
    register(check_settings, "pgevents")
    register(check_databases, Tags.database)
