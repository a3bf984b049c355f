"""``pgevents demo``: another process changes rows, and this one receives the events."""

import json
import os
import queue
import sqlite3
import statistics
import subprocess
import sys
import tempfile
import time
from typing import IO, List, Tuple

import click
from sqlalchemy.engine import URL

from ..events.event import Event
from ..hub import Hub
from ..listening.registry import Registry
from ..listening.target import MOMENTS
from . import shop
from .lines import line

PATIENCE = 5.0  # seconds in which a change that was committed has to arrive

NEXT = """
On a database of yours:

    pgevents tail sqlite:///path/to/your.db TABLE
    pgevents tail postgresql://user@host/database TABLE

In your program (README.md has the rest):

    from pgevents import Hub, listens_for

    @listens_for("orders", "after_insert")
    def send_receipt(event):
        print(event.key, event.new)

    with Hub("postgresql://user@host/database"):
        input("listening; Enter ends ")
"""


@click.command()
def demo() -> None:
    """See it work, without a database of yours.

    Another process writes to a SQLite file in a temporary folder, and this one
    receives the events. The demo takes a few seconds and leaves nothing behind. The
    milliseconds count from just before the writer's COMMIT until the listener here was
    called, so they contain the commit itself.
    """
    with tempfile.TemporaryDirectory(prefix="pgevents-demo-") as folder:
        path = os.path.join(folder, "shop.db")
        connection = sqlite3.connect(path)
        connection.execute(shop.TABLE)
        connection.close()
        latencies, silent = _listen(path)
    changes, median = len(latencies), statistics.median(latencies)
    click.secho(f"\n{changes} events received, median latency {median:.1f} ms.", bold=True)
    click.echo(f"{silent} transaction was rolled back: no event came of it.")
    click.echo(NEXT)


def _listen(path: str) -> Tuple[List[float], int]:
    """Listen while the shop works; return the latencies in ms, and how often it rolled back."""
    received: "queue.Queue[Tuple[float, Event]]" = queue.Queue()
    registry = Registry()
    registry.listen("orders", MOMENTS, lambda event: received.put((time.time(), event)))
    with Hub(URL.create("sqlite", database=path), registry) as hub:
        # -I: nothing of ours is on its path.
        command = [sys.executable, "-I", shop.__file__, path]
        with subprocess.Popen(command, stdout=subprocess.PIPE, universal_newlines=True) as writer:
            assert writer.stdout is not None
            click.echo(
                f"{path}\nwritten by process {writer.pid}, received by process {os.getpid()}\n"
            )
            try:
                result = _follow(writer.stdout, received)
            finally:
                writer.kill()
        hub.drain()
    if not received.empty():
        raise click.ClickException(f"received what was not committed: {received.get()[1]!r}")
    if not result[0]:
        raise click.ClickException("the writing process did not write anything")
    return result


def _follow(
    lines: IO[str], received: "queue.Queue[Tuple[float, Event]]"
) -> Tuple[List[float], int]:
    """Show each transaction of the shop, and the events that came of it."""
    latencies, silent = [], 0
    for text in lines:
        done = json.loads(text)
        click.secho(f"{done['sql']}; {done['end']}", dim=True)
        if done["end"] == "ROLLBACK":
            silent += 1
            continue
        for _ in range(done["rows"]):
            try:
                at, event = received.get(timeout=PATIENCE)
            except queue.Empty:
                raise click.ClickException(
                    f"no event within {PATIENCE:.0f} s: {done['sql']}"
                ) from None
            latencies.append((at - done["at"]) * 1000)
            click.echo(f"    {latencies[-1]:5.1f} ms  {line(event)}")
    return latencies, silent
