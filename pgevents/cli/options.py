"""What several commands ask for on their command lines."""

import functools
import os
from typing import Any, Callable, Optional, Tuple, TypeVar

import click

from ..hub import Hub
from ..registry import Registry
from ..target import MOMENTS

Command = TypeVar("Command", bound=Callable[..., Any])

ENVIRONMENT = "PGEVENTS_URL"  # where a URL may be that is not on the command line

#: A database's URL, and the names of tables in it.
Place = Tuple[str, Tuple[str, ...]]


def _place(context: click.Context, _: click.Parameter, words: Tuple[str, ...]) -> Place:
    """Tell the URL from the tables: it may have been left out."""
    url: Optional[str] = os.environ.get(ENVIRONMENT)
    if words and "://" in words[0]:
        url, words = words[0], words[1:]
    if not url:
        raise click.UsageError(
            f"no database: give its URL first, or set {ENVIRONMENT}", context
        )
    if not words:
        raise click.UsageError("no table: name one or more after the URL", context)
    return url, words


place = click.argument("place", nargs=-1, metavar="URL TABLE...", callback=_place)
url = click.argument("url", envvar=ENVIRONMENT)
moments = click.option(
    "--moment",
    "moments",
    multiple=True,
    type=click.Choice([*MOMENTS, "after_change"]),
    metavar="MOMENT",
    help=f"Only this moment: {', '.join(MOMENTS)}, or after_change for the first three."
    " May be repeated.",
)
service = click.option(
    "--service",
    default="default",
    show_default=True,
    help="The application that wants it; applications do not touch each other's captures.",
)
schema = click.option(
    "--schema", default="pgevents", show_default=True, help="The name of the log."
)


def watching(command: Command) -> Command:
    """Ask what is to be captured; call the command with a hub that watches it, and the tables."""

    @place
    @moments
    @click.option("--include", multiple=True, metavar="COLUMN", help="Only these columns.")
    @click.option("--exclude", multiple=True, metavar="COLUMN", help="All columns but these.")
    @click.option(
        "--no-old",
        is_flag=True,
        help="Of old rows keep the key alone: the log is smaller, but no event tells what changed.",
    )
    @service
    @schema
    @functools.wraps(command)
    def with_hub(
        place: Place,
        moments: Tuple[str, ...],
        include: Tuple[str, ...],
        exclude: Tuple[str, ...],
        no_old: bool,
        service: str,
        schema: str,
        **more: Any,
    ) -> Any:
        url, tables = place
        hub = Hub(url, Registry(), schema, service=service)
        for table in tables:
            hub.watch(
                table,
                *moments,
                include=include or None,
                exclude=exclude or None,
                old=not no_old,
            )
        return command(hub, tables, **more)

    return with_hub  # type: ignore[return-value]
