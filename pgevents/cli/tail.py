"""``pgevents tail``: the changes of tables, live."""

import logging
import threading
from typing import Any, Dict, List, Optional, Tuple

import click

from ..errors import DatabaseError, NotInstalled
from ..events.event import Event
from ..hub import Hub
from ..listening.registry import Registry
from ..listening.target import MOMENTS
from ..retry import Retry
from . import options
from .lines import line
from .say import say

LOOK = 0.5  # seconds between two looks whether the hub is still alive


@click.command(cls=options.Command)
@options.url
@options.tables
@options.moments
@click.option("--json", "as_json", is_flag=True, help="One event as JSON per line, with all of it.")
@click.option("--count", type=click.IntRange(min=1), metavar="N", help="End after N events.")
@click.option("--no-install", is_flag=True, help="Fail where triggers are missing.")
@options.service
@options.schema
def tail(
    url: str,
    tables: Tuple[str, ...],
    moments: Tuple[str, ...],
    as_json: bool,
    count: Optional[int],
    no_install: bool,
    service: str,
    schema: str,
) -> None:
    """Show the changes of tables, live.

    Runs until ctrl-C. Each line has the time, the moment, the table, the key, and what changed.
    Where nobody captures a table yet, its triggers are installed, and the log where there is none.
    They stay; pgevents uninstall removes them.

    On PostgreSQL, whoever installs owns the log. Where a program's role is to run a hub, let that
    role install first, or the tables' owner with pgevents sql --role: after a superuser has looked
    with tail, the program may not read the log.

    \b
    Examples:
      pgevents tail sqlite:///shop.db orders
      pgevents tail postgresql://me@host/shop orders sales.customers --moment after_delete
      PGEVENTS_URL=postgresql://me@host/shop pgevents tail orders --json --count 10
    """
    moments = moments or MOMENTS
    registry = Registry()
    printer = Printer(as_json, count)
    # Whatever keeps it from starting is raised here; what happens later is only logged.
    logging.getLogger("pgevents").addHandler(logging.NullHandler())
    # Not again after a failure: half a line may be out already.
    hub = Hub(url, registry, schema, service=service, install=False, retry=Retry(attempts=1))
    captured = hub.installed()
    for table in tables:
        registry.listen(table, moments, printer)
        known = _find(captured, table)
        if known is not None:
            # As it is captured: to look must not widen it to columns that were left out.
            hub.watch(
                table,
                *moments,
                include=known["include"],
                exclude=known["exclude"] or None,
                old=known["old"],
            )
    try:
        try:
            hub.start()
        except NotInstalled:
            if no_install:
                raise
            had_log = _has_log(hub)
            hub.install()
            say(_installed(had_log, tables, service, schema), err=True)
            hub.start()
        logging.basicConfig(format="pgevents: %(message)s")
        say(f"listening to {', '.join(tables)}, ctrl-C ends", err=True)
        while not printer.done.wait(LOOK):
            status = hub.status()
            if status["state"] == "failed":
                raise DatabaseError(status["error"] or "the hub has ended")
    except KeyboardInterrupt:
        pass
    finally:
        printer.done.set()
        hub.stop()
    if printer.error is not None:
        raise printer.error


def _has_log(hub: Hub) -> bool:
    try:
        hub.groups()
    except NotInstalled:
        return False
    return True


def _installed(had_log: bool, tables: Tuple[str, ...], service: str, schema: str) -> str:
    """Print what has been installed, and which command removes it."""
    log = "" if had_log else f"the log {schema}, and "
    options = "" if service == "default" else f" --service {service}"
    options += "" if schema == "pgevents" else f" --schema {schema}"
    return (
        f"installed {log}triggers on {', '.join(tables)}, for the service {service}:"
        f" pgevents uninstall URL{options} takes back all of that service"
    )


class Printer:
    """A listener that prints; ``done`` is set after ``count`` events, or when it cannot print."""

    def __init__(self, as_json: bool, count: Optional[int]) -> None:
        self._as_json = as_json
        self._left = count
        self.done = threading.Event()
        self.error: Optional[OSError] = None

    def __call__(self, event: Event) -> None:
        if self.done.is_set():
            return
        try:
            if self._as_json:
                click.echo(event.to_json())
            else:
                click.echo(f"{event.at.astimezone():%H:%M:%S.%f}"[:-3] + "  " + line(event))
        except OSError as error:  # who reads what we print has gone: pgevents tail … | head
            self.error = error
            self.done.set()
        if self._left is not None:
            self._left -= 1
            if not self._left:
                self.done.set()


def _find(captured: List[Dict[str, Any]], table: str) -> Optional[Dict[str, Any]]:
    """Return what is captured of a table, if only one of the captured can be meant."""
    found = [row for row in captured if row["table"] == table]
    found = found or [row for row in captured if row["table"].partition(".")[2] == table]
    return found[0] if len(found) == 1 else None
