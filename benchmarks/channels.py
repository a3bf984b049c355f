"""What a message costs: to publish it, to handle those that wait, and how soon one is received.

Beside sqlspec's events extension, and beside the bare driver's INSERT and COMMIT, which is the
floor. Each runs in a process of its own, and other people's packages in a virtual environment.
"""

import contextlib
import random
import sqlite3
import sys
import time
from typing import Any, Callable, Dict, List, Optional

import psycopg2

from pgevents import Hub, Registry
from tests.servers import home

from .report import Report, interleaved, medians, percentile, ratio, spread
from .rivals.venvs import Missing, Script, Venv

ONE_BY_ONE = 1000  # messages
AT_ONCE = 50_000
WAITING = 50_000
WAITING_THERE = 500  # sqlspec takes tens of milliseconds for each
LATENCIES = 60
PAUSE = (0.02, 0.06)  # seconds between two messages: everybody sleeps again

PUBLISH = "SELECT pgevents.publish('orders', '{\"id\": 1}')"
NOTIFY = """SELECT pg_notify('orders', '{"event_id": "1", "payload": {"id": 1}, "metadata": null,
 "published_at": "2026-01-01T00:00:00+00:00"}')"""  # as sqlspec's publish() does

OURS, FLOOR, THEIRS = "pgevents", "INSERT + COMMIT", "sqlspec"
TABLE = "CREATE TABLE IF NOT EXISTS floor (id {}, topic text, payload text)"


class Here(Venv):
    """The interpreter that runs the benchmarks, in the place of a virtual environment."""

    def __init__(self) -> None:
        self.name = "pgevents"
        self.python = sys.executable


def measure(server: Any, report: Report) -> None:
    """Measure PostgreSQL and SQLite."""
    theirs: Optional[Venv] = None
    try:
        theirs = Venv("sqlspec", ["sqlspec==0.69.*", "psycopg[binary,pool]"])
    except Missing as reason:
        report.say("sqlspec was not measured: {}".format(reason))

    def postgres() -> str:
        return str(server.url(server.create_database(), driver="postgresql"))

    def file() -> str:
        path = home().directory("channels") / "messages.db"
        with contextlib.closing(sqlite3.connect(str(path))) as connection:
            connection.execute("PRAGMA journal_mode = WAL")
        return "sqlite:///{}".format(path)

    _compare("PostgreSQL", postgres, theirs, report)
    _compare("SQLite", file, theirs, report)
    _latency(postgres, theirs, report)


def _compare(where: str, fresh: Callable[[], str], theirs: Optional[Venv], report: Report) -> None:
    ours, few = Here(), 5 if report.quick else 1

    def rates(what: str, number: int, there: int) -> Dict[str, Callable[[], float]]:
        found: Dict[str, Callable[[], float]] = {
            OURS: lambda: number / ours.seconds("pgevents_channels", fresh(), number, what)
        }
        if theirs is not None:
            if what == "drain":
                found[THEIRS] = lambda: there / theirs.seconds(
                    "sqlspec_events", fresh(), there, "poll_queue"
                )
            else:
                found[THEIRS] = lambda: there / theirs.seconds(
                    "sqlspec_channels", fresh(), there, "poll_queue", what
                )
        return found

    number = ONE_BY_ONE // few
    singly = rates("publish", number, number)
    singly[FLOOR] = lambda: number / _floor(fresh(), number)
    many, waiting = AT_ONCE // few, WAITING // few
    subjects = {
        "publish(), a commit for each": singly,
        "publish_many(), 1,000 in a commit": rates("publish_many", many, many // 10),
        "a group that handles what waits": rates("drain", waiting, WAITING_THERE // few),
    }
    found = {name: interleaved(report.rounds(3), variants) for name, variants in subjects.items()}
    rows = [
        (
            name,
            variant,
            "{:,.0f}".format(median),
            spread(rounds[variant]),
            _to_ours(rounds, variant),
        )
        for name, rounds in found.items()
        for variant, median in medians(rounds).items()
    ]
    report.table(
        "Channels, {}: messages in a second".format(where),
        ("", "", "median", "rounds", "pgevents to it"),
        rows,
    )
    _targets(where, found, report)


def _to_ours(rounds: Dict[str, List[float]], variant: str) -> str:
    return "" if variant == OURS else "{:.2f}".format(ratio(rounds, OURS, variant))


def _targets(where: str, found: Dict[str, Dict[str, List[float]]], report: Report) -> None:
    singly, many, drained = found.values()

    def target(what: str, wanted: float, rounds: Dict[str, List[float]], to: str) -> None:
        if to in rounds:
            measured = ratio(rounds, OURS, to)
            report.target(
                "{}, {} to {}".format(where, what, to),
                "≥ {:g}".format(wanted),
                "{:.2f}".format(measured),
                measured >= wanted,
            )

    target("publish", 0.5, singly, FLOOR)
    target("publish", 2, singly, THEIRS)
    target("what waits", 50, drained, THEIRS)
    if where == "PostgreSQL":
        rate = medians(many)[OURS]
        report.target(
            "PostgreSQL, publish_many", "≥ 30,000/s", "{:,.0f}/s".format(rate), rate >= 30_000
        )


def _floor(url: str, number: int) -> float:
    """Return how many seconds so many INSERTs take, each in a commit of its own."""
    connection: Any
    if url.startswith("sqlite:///"):
        connection, mark, key = (
            sqlite3.connect(url[len("sqlite:///") :]),
            "?",
            "integer PRIMARY KEY",
        )
    else:
        connection, mark, key = psycopg2.connect(url), "%s", "bigserial PRIMARY KEY"
    with contextlib.closing(connection):
        cursor = connection.cursor()
        cursor.execute(TABLE.format(key))
        connection.commit()
        sql = "INSERT INTO floor (topic, payload) VALUES ({0}, {0})".format(mark)
        begun = time.monotonic()
        for n in range(number):
            cursor.execute(sql, ("orders", '{{"id": {}, "item": "a book"}}'.format(n)))
            connection.commit()
        return time.monotonic() - begun


def _latency(fresh: Callable[[], str], theirs: Optional[Venv], report: Report) -> None:
    """Measure how soon a message is received when all is quiet, beside sqlspec's own NOTIFY."""
    url = fresh()
    Hub(url, Registry()).install()
    variants: Dict[str, Callable[[], List[float]]] = {}
    with contextlib.ExitStack() as stack:

        def variant(name: str, venv: Venv, sql: str, url: str, script: str, *mode: str) -> None:
            listening = stack.enter_context(Script(venv, script, url, 0, *mode, "listen"))
            connection = stack.enter_context(contextlib.closing(psycopg2.connect(url)))
            variants[name] = lambda: _latencies(connection, sql, listening)

        variant(OURS, Here(), PUBLISH, url, "pgevents_channels")
        if theirs is not None:
            variant(THEIRS + ", notify", theirs, NOTIFY, fresh(), "sqlspec_channels", "notify")
        rounds = interleaved(report.rounds(5), variants)
    quantiles = {
        name: [percentile(sum(found, []), share) for share in (0.5, 0.99)]
        for name, found in rounds.items()
    }
    report.table(
        "Channels, PostgreSQL: milliseconds from the return of COMMIT to the subscriber's call",
        ("", "p50", "p99"),
        [(name, *map("{:.2f}".format, found)) for name, found in quantiles.items()],
    )
    if len(quantiles) == 2:
        ours, other = (found[0] for found in quantiles.values())
        report.target(
            "PostgreSQL, latency p50 to sqlspec's notify",
            "≤ {:.2f} ms".format(other),
            "{:.2f} ms".format(ours),
            ours <= other,
        )


def _latencies(connection: Any, sql: str, listening: Script) -> List[float]:
    found = []
    for _ in range(LATENCIES):
        time.sleep(random.uniform(*PAUSE))
        connection.cursor().execute(sql)
        connection.commit()
        returned = time.monotonic()
        found.append((listening.next() - returned) * 1000)
    return found
