"""``pgevents groups``, ``pause``, ``resume``, ``rewind``, ``drop`` …: looking after groups."""

import datetime
import json
import time
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Union

import click
from rich import box
from rich.console import Console
from rich.table import Table

from ..errors import UsageError
from ..groups.group import Group
from ..hub import Hub
from ..listening.registry import Registry
from . import options
from .say import ask, cell, say

TOLERANCE = 60.0  # seconds that the database's clock may be ahead of ours


@contextmanager
def hub_of(url: str, schema: str, service: str = "default") -> Iterator[Hub]:
    """Give a hub to ask about groups."""
    hub = Hub(url, Registry(), schema, service=service, install=False)
    try:
        yield hub
    finally:
        hub.stop()


@contextmanager
def named(url: str, schema: str, name: str) -> Iterator[Group]:
    """Give the group of this name. Raises UsageError with the names there are."""
    with hub_of(url, schema) as hub:
        names = [group.name for group in hub.groups()]
        if name not in names:
            there = ", ".join(names) or "none"
            raise UsageError(f"there is no group {name!r}; there are: {there}")
        yield hub.group(name)


def belongings(group: Group) -> str:
    """Return what is lost with a group, in words."""
    waiting, dead = group.lag()[0], len(group.dead_letters())
    return f"{counted(waiting, 'waiting event')} and {counted(dead, 'dead letter')}"


def counted(number: int, noun: str) -> str:
    """Return a number with its noun: "1 event", "2 events"."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


@click.command(cls=options.Command)
@options.url
@click.option("--json", "as_json", is_flag=True, help="As JSON: a list with an object per group.")
@options.schema
def groups(url: str, as_json: bool, schema: str) -> None:
    """Show the groups: what waits, for how long, what was given up, and who serves them.

    Where nobody does, all its processes are down, or its listeners are gone
    from the program. What waits for such a group grows, and keeps the log (for
    two weeks, or Hub's group_retention) until pgevents drop forgets it.

    \b
    Examples:
      pgevents groups sqlite:///shop.db
      pgevents groups postgresql://me@host/shop --json
    """
    with hub_of(url, schema) as hub:
        rows = [_row(group) for group in hub.groups()]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    if not rows:
        say("there are no groups here: a listener with group=… makes one")
        return
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, collapse_padding=True)
    for title in ("group", "waiting", "oldest", "dead", "order", "served by", "tables"):
        table.add_column(title, overflow="fold")
    for row in rows:
        table.add_row(
            cell(row["group"] + "".join(f" ({state})" for state in _states(row))),
            str(row["waiting"]),
            f"{row['oldest']:.0f} s" if row["waiting"] else "",
            cell(str(row["dead"]), style="red" if row["dead"] else ""),
            "ordered" if row["ordered"] else "any",
            cell(", ".join(row["served_by"])) if row["served_by"] else cell("nobody", "red"),
            cell(", ".join(row["tables"])),
        )
    Console().print(table)


def _states(row: Dict[str, Any]) -> Iterator[str]:
    if row["paused"]:
        yield "paused"
    if row["backfill"]:
        yield "backfill {:.0f} %".format(100 * row["backfill"]["done"] / row["backfill"]["total"])


def _row(group: Group) -> Dict[str, Any]:
    waiting, oldest = group.lag()
    info = group.info()
    return {
        "group": group.name,
        "waiting": waiting,
        "oldest": oldest,
        "dead": len(group.dead_letters()),
        "ordered": info["ordered"],
        "paused": info["paused"],
        "served_by": group.served_by(),
        "backfill": group.progress(),
        "tables": sorted(info["topics"]),
    }


@click.command(cls=options.Command)
@options.url
@click.argument("group")
@options.schema
def pause(url: str, group: str, schema: str) -> None:
    """Let no process take anything more, until it is resumed.

    What has been taken is finished. What comes meanwhile waits in the log, for
    as long as the log keeps it for groups (Hub's group_retention).

    \b
    Examples:
      pgevents pause postgresql://me@host/shop mailer
    """
    with named(url, schema, group) as found:
        found.pause()
    say(f"the group {group} is paused, until pgevents resume")


@click.command(cls=options.Command)
@options.url
@click.argument("group")
@options.schema
def resume(url: str, group: str, schema: str) -> None:
    """Let a group go on that was paused.

    \b
    Examples:
      pgevents resume postgresql://me@host/shop mailer
    """
    with named(url, schema, group) as found:
        found.resume()
    say(f"the group {group} goes on")


@click.command(cls=options.Command)
@options.url
@click.argument("group")
@click.argument("to")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.schema
def rewind(url: str, group: str, to: str, yes: bool, schema: str) -> None:
    """Move a group's position: what comes after it is handled, perhaps again.

    TO is "beginning" (of what the log keeps), "now" (skip what waits), a
    position, or a time such as 2026-11-21T08:00+00:00. A time without zone is
    this machine's local time.

    What has failed and waits to be tried again, and what a backfill has not
    come to, is forgotten unless it comes after TO: with "now", all of it. Dead
    letters stay. Asks before.

    \b
    Examples:
      pgevents rewind postgresql://me@host/shop mailer beginning
      pgevents rewind postgresql://me@host/shop mailer 2026-11-21T08:00:00+00:00
    """
    with named(url, schema, group) as found:
        place = _place(to)
        if not yes:
            ask(f"Move the group {group} to {place}?")
        found.rewind(place)
        waiting = found.lag()[0]
    say(f"the group {group} is at {place}; {waiting} events wait")


@click.command(cls=options.Command)
@options.url
@click.argument("group")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.schema
def drop(url: str, group: str, yes: bool, schema: str) -> None:
    """Forget a group, with what waits for it and what it has given up.

    For a group whose listeners are gone from the program, for which the log is
    kept all the same. Stop its processes before. A listener that names the group
    later begins a new one. The command asks before.

    \b
    Examples:
      pgevents drop postgresql://me@host/shop mailer
    """
    with named(url, schema, group) as found:
        lost = belongings(found)
        if not yes:
            for process in found.served_by():
                say(f"{process} serves it: stop it first.")
            ask(f"Drop the group {group}? {lost} are lost.")
        found.drop()
    say(f"the group {group} is dropped, with {lost}")


def _place(to: str) -> Union[str, int, datetime.datetime]:
    if to in ("beginning", "now"):
        return to
    if to.isdigit():
        return int(to)
    try:
        place = datetime.datetime.fromisoformat(to)
    except ValueError:
        raise UsageError(
            f'no place to go to: {to!r}. Give "beginning", "now", a position, or a time'
        ) from None
    # A time without zone is the one on the wall of who types it.
    place = place if place.tzinfo else place.astimezone()
    if place.timestamp() > time.time() + TOLERANCE:
        raise UsageError(f'{place} is to come: to skip what waits, give "now"')
    return place
