"""The processes that listen: a hub, or a loop written by hand.

What is measured across processes is time.monotonic(), which on Linux is one
clock for all of them.
"""

import datetime
import decimal
import multiprocessing
import sqlite3
import time
from typing import Any, Callable

import pgevents

from . import handwritten

START = 30.0  # seconds in which a process has to listen
SLOW = 0.002  # seconds that the slow listener takes: slower than anybody writes

Handle = Callable[[Any], None]


class Listening:
    """A process that listens to the orders, for a ``with``.

    ``kind`` is "pgevents", "handwritten" or "polling", ``handler`` one of
    those below, with its ``arguments``.
    """

    def __init__(self, kind: str, url: str, handler: str, *arguments: Any) -> None:
        self._spawn(_run, kind, url, handler, arguments)

    def __enter__(self) -> "Listening":
        self._process.start()
        assert self.next(START) == "ready"
        return self

    def __exit__(self, *_: Any) -> None:
        self.kill()
        self._pipe.close()

    def _spawn(self, run: Callable[..., None], *arguments: Any) -> None:
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(target=run, args=(theirs, *arguments), daemon=True)

    def next(self, timeout: float = 60.0) -> Any:
        """Return the next thing that the handler sent."""
        if not self._pipe.poll(timeout):
            raise TimeoutError("the listener has said nothing for {:.0f} s".format(timeout))
        return self._pipe.recv()

    def kill(self) -> None:
        """End the process as kill -9 does."""
        self._process.kill()
        self._process.join()

    def cpu(self) -> float:
        """Return how many seconds of a core the process has used."""
        self._pipe.send("cpu")
        return float(self.next())


def _run(pipe: Any, kind: str, url: str, handler: str, arguments: Any) -> None:
    handle = HANDLERS[handler](pipe, *arguments)
    if kind == "handwritten":
        # The driver's own URL has no +psycopg2.
        handwritten.loop(url.replace("+psycopg2", ""), lambda: pipe.send("ready"), handle)
    if kind == "polling":
        _poll(url, lambda: pipe.send("ready"), handle)
    registry = pgevents.Registry()
    registry.listen("orders", "after_insert", handle)
    with pgevents.Hub(url, registry):
        pipe.send("ready")
        while pipe.recv() == "cpu":
            pipe.send(time.process_time())


def _poll(path: str, ready: Callable[[], None], handle: Handle, pause: float = 0.01) -> None:
    """Ask a SQLite file for new rows, every ten milliseconds."""
    connection = sqlite3.connect(path.replace("sqlite:///", ""), timeout=10)
    last = connection.execute("SELECT coalesce(max(id), 0) FROM orders").fetchone()[0]
    ready()
    while True:
        for row in connection.execute("SELECT id FROM orders WHERE id > ?", (last,)).fetchall():
            last = row[0]
            handle(row)
        time.sleep(pause)


# Handlers.


def stamp(pipe: Any) -> Handle:
    """Send the time of each call."""
    return lambda _: pipe.send(time.monotonic())


def count(pipe: Any, number: int) -> Handle:
    """Do nothing; send the time of the call that completes the number."""
    left = number

    def handle(_: Any) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            left = number
            pipe.send(time.monotonic())

    return handle


def read(pipe: Any, number: int) -> Handle:
    """Look into each event; send the time of the call that completes the number."""
    done = count(pipe, number)

    def handle(event: Any) -> None:
        assert event.new["item"]
        done(event)

    return handle


def typed(pipe: Any, number: int) -> Handle:
    """Make of a row's JSON the values that an event has; the loop written by hand."""
    done = count(pipe, number)

    def handle(row: Any) -> None:
        row["price"] = decimal.Decimal(str(row["price"]))
        row["at"] = datetime.datetime.fromisoformat(row["at"])
        done(row)

    return handle


def slow(pipe: Any) -> Handle:
    """Take longer than the writers do."""
    return lambda _: time.sleep(SLOW)


HANDLERS = {"stamp": stamp, "count": count, "read": read, "typed": typed, "slow": slow}
