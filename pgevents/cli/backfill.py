"""``pgevents backfill``: how far a group is with the rows that were there before it."""

import time
from typing import Dict, Iterator

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from ..display import shown
from ..groups.group import Group
from . import options
from .groups import named
from .say import say

LOOK = 0.5  # seconds between two looks
STEP = 10  # per cent between two lines, where there is no terminal


@click.command(cls=options.Command)
@options.url
@click.argument("group")
@options.schema
def backfill(url: str, group: str, schema: str) -> None:
    """Show how far the backfill of a group is, until all of it is handled.

    \b
    Examples:
      pgevents backfill sqlite:///shop.db indexer
      pgevents backfill postgresql://me@host/shop indexer
    """
    with named(url, schema, group) as found:
        total = found.info()["backfilled"]
        if total is None:
            say(
                f'the group {group} has no backfill: it began without start="backfill",'
                " or was moved"
            )
            return
        console = Console()
        show = _bar if console.is_terminal else _lines
        show(console, group, _looks(found))
    say(f"the backfill of {group} is done: {total:,} rows")


def _looks(group: Group) -> Iterator[Dict[str, int]]:
    """Look again and again how far it is, until it is done."""
    while True:
        progress = group.progress()
        if progress is None:
            return
        yield progress
        time.sleep(LOOK)


def _bar(console: Console, name: str, looks: Iterator[Dict[str, int]]) -> None:
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task(shown(name), total=1)
        for look in looks:
            progress.update(task, completed=look["done"], total=look["total"])


def _lines(_: Console, name: str, looks: Iterator[Dict[str, int]]) -> None:
    printed = -STEP
    for look in looks:
        done = 100 * look["done"] // look["total"]
        if done >= printed + STEP:
            printed = done
            say(f"{name}: {look['done']:,} of {look['total']:,} rows, {done} %")
