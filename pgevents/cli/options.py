"""What several commands ask for on their command lines."""

import functools
import os
from typing import Any, Callable, List, Optional, Tuple, TypeVar

import click

from ..hub import Hub
from ..listening.registry import Registry
from ..listening.target import MOMENTS

Function = TypeVar("Function", bound=Callable[..., Any])

ENVIRONMENT = "PGEVENTS_URL"  # where a URL may be that is not on the command line


class Command(click.Command):
    """A command whose first word is a URL; left out, it comes from the environment."""

    def parse_args(self, ctx: click.Context, args: List[str]) -> List[str]:
        known = os.environ.get(ENVIRONMENT)
        # Not by click's envvar: it would take the word that comes next for the URL.
        if known and not any("://" in word for word in args):
            args = [known, *args]
        return super().parse_args(ctx, args)


def _url(context: click.Context, _: click.Parameter, word: Optional[str]) -> str:
    if word is None or "://" not in word:
        hint = f" sqlite:///{word}," if word and _is_path(word) else ""
        raise click.UsageError(
            f"no database: give its URL first,{hint} or set {ENVIRONMENT}", context
        )
    return word


def _is_path(word: str) -> bool:
    return word.endswith((".db", ".sqlite", ".sqlite3")) or os.path.isfile(word)


url = click.argument("url", required=False, metavar="URL", callback=_url)
tables = click.argument("tables", nargs=-1, required=True, metavar="TABLE...")
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
owner = click.option(
    "--owner",
    metavar="ROLE",
    help="PostgreSQL: a role with whose rights the triggers run, instead of those of who installs;"
    " created where it is not there.",
)


_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86400}


def age(_: click.Context, __: click.Parameter, word: str) -> float:
    """Return a time such as 30d, 12h, 45m or 90s in seconds."""
    number, unit = word[:-1], word[-1:]
    if unit not in _UNITS or not (number.isascii() and number.isdigit()):
        raise click.BadParameter(f"{word!r} is no time: give one such as 30d, 12h, 45m or 90s")
    return float(int(number) * _UNITS[unit])


def watching(command: Function) -> Function:
    """Ask what is to be captured; call the command with a hub that watches it, and the tables."""

    @url
    @tables
    @moments
    @click.option("--include", multiple=True, metavar="COLUMN", help="Only these columns.")
    @click.option("--exclude", multiple=True, metavar="COLUMN", help="All columns but these.")
    @click.option(
        "--no-old",
        is_flag=True,
        help="Of old rows keep the key alone: the log is smaller, but no event has what changed.",
    )
    @service
    @schema
    @functools.wraps(command)
    def with_hub(
        url: str,
        tables: Tuple[str, ...],
        moments: Tuple[str, ...],
        include: Tuple[str, ...],
        exclude: Tuple[str, ...],
        no_old: bool,
        service: str,
        schema: str,
        **more: Any,
    ) -> Any:
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
