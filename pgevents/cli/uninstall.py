"""``pgevents uninstall``: take the triggers back, and the log with the last of them."""

from typing import Any, Dict, Iterator, List

import click

from ..errors import NotInstalled
from ..groups.group import Group
from ..hub import Hub
from . import options
from .groups import belongings, hub_of
from .say import ask, say

KEPT = "the groups {}: kept; --everything deletes them, too"


@click.command(cls=options.Command)
@options.url
@click.option("--everything", is_flag=True, help="What all services capture, and the log itself.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@options.service
@options.schema
def uninstall(url: str, everything: bool, yes: bool, service: str, schema: str) -> None:
    """Stop capturing what a service has captured.

    Removes the triggers that no other service needs; when no service is left,
    the log too, and with it the events that nobody has read yet. While there
    are groups, they and the log stay, unless --everything is given. Tells what
    is lost, and asks before.

    Where the log stays, hubs of the service that run notice, warn, and leave
    the tables alone until somebody installs again. Where the log goes, stop
    them first: one that runs makes it again.

    \b
    Examples:
      pgevents uninstall sqlite:///shop.db
      pgevents uninstall postgresql://owner@host/shop --service reports
      pgevents uninstall postgresql://owner@host/shop --everything --yes
    """
    with hub_of(url, schema, service) as hub:
        rows, groups = hub.installed(), _groups(hub)
        ours = [row for row in rows if everything or service in row["services"]]
        if rows and not ours:
            say(f"the service {service!r} captures nothing here; there is {_services(rows)}")
            return
        if not yes and (ours or everything and groups):
            for line in _losses(rows, ours, groups, service, everything):
                say(line)
            ask("Uninstall?")
        # With nothing captured, only the log is left: for groups, it stays.
        if ours or everything or not groups:
            hub.uninstall(everything)
        kept = _groups(hub)
    say(f"no longer captured: {_tables(ours)}" if ours else "nothing was captured here")
    if kept:
        say(KEPT.format(_names(kept)))


def _losses(
    rows: List[Dict[str, Any]],
    ours: List[Dict[str, Any]],
    groups: List[Group],
    service: str,
    everything: bool,
) -> Iterator[str]:
    """Yield a line for whatever is lost, or is kept though the user may not expect it."""
    if ours:
        whom = f"all services: {_services(rows)}" if everything else f"the service {service}"
        yield f"{_tables(ours)}: no longer captured, for {whom}"
    alone = all(row["services"] == [service] for row in rows)
    if everything or alone and not groups:
        yield "the log: deleted, with the events that nobody has read yet"
    if everything:
        for group in groups:
            yield f"the group {group.name}: deleted, with {belongings(group)}"
    elif groups:
        yield KEPT.format(_names(groups))


def _groups(hub: Hub) -> List[Group]:
    try:
        return hub.groups()
    except NotInstalled:
        return []


def _services(rows: List[Dict[str, Any]]) -> str:
    return ", ".join(sorted({name for row in rows for name in row["services"]}))


def _tables(rows: List[Dict[str, Any]]) -> str:
    return ", ".join(row["table"] for row in rows)


def _names(groups: List[Group]) -> str:
    return ", ".join(group.name for group in groups)
