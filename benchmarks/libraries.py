"""Other libraries that tell of changed rows: how soon, what their triggers cost, what gets lost.

SQLNotify, and psycopg2-pgevents, which flask-sqlalchemy-pgevents is made of. Each runs in a process
and a virtual environment of its own; what cannot be installed is left out.
"""

import contextlib
import time
from typing import Any, Callable, ContextManager, Dict, List, NamedTuple, Optional

import psycopg2

from tests.proxy import Proxy

from . import bulk, latency, sqlite
from .latency import INSERT
from .listeners import Listening
from .report import Report, interleaved, medians, percentile, ratio
from .rivals.venvs import Missing, Script, Venv
from .server import Database
from .writers import DISKS, FOR_EVER, Pgbench, slow_down

CLIENTS = 16
OUTAGE = 1.0  # seconds in which nobody can connect, after the listener's connection was cut
LOST = 100  # events that are committed meanwhile, and as many after it
SILENCE = 5.0  # seconds without an event until the rest counts as lost
LARGE = "INSERT INTO orders (item, price) VALUES (repeat('x', 10000), 9.90)"

NOBODY, OURS = "no trigger", "pgevents"


class Library(NamedTuple):
    """A package, what to install, and the script that listens with it."""

    name: str
    packages: List[str]
    script: str
    sqlite: bool = False


LIBRARIES = [
    Library("sqlnotify", ["sqlnotify[sqlite]", "greenlet"], "sqlnotify_listener", sqlite=True),
    Library("psycopg2-pgevents", ["psycopg2-pgevents"], "psycopg2_pgevents_listener"),
]


class Subject:
    """A library with a database of its own: the orders, and whoever listens to them.

    ``start(url, mode)`` makes a process that listens.
    """

    def __init__(
        self, database: Database, start: Callable[[str, str], ContextManager[Any]]
    ) -> None:
        self.database = database
        self._start = start

    def listen(self, mode: str, port: Optional[int] = None) -> ContextManager[Any]:
        """Make a process that listens, perhaps through a proxy's port."""
        return self._start(self.database.server.url(self.database.name, port=port), mode)


def measure(server: Any, report: Report) -> None:
    """Measure pgevents and the libraries."""
    venvs: Dict[str, Venv] = {}
    for library in LIBRARIES:
        try:
            venvs[library.name] = Venv(library.name, library.packages)
        except Missing as reason:
            report.say("{} was not measured: {}".format(library.name, reason))
    there = [library for library in LIBRARIES if library.name in venvs]
    named = {library.name: _name(venvs[library.name]) for library in there}
    subjects = {named[library.name]: _theirs(server, library, venvs) for library in there}
    subjects[OURS] = _ours(server)
    _latency(subjects, report)
    _cost(server, subjects, report)
    _losses(subjects, report)
    _sqlite({named[one.name]: (one, venvs[one.name]) for one in there if one.sqlite}, report)


def _name(venv: Venv) -> str:
    return "{} {}".format(venv.name, venv.version())


def _ours(server: Any) -> Subject:
    database = Database(server)
    database.watch()
    arguments = {"stamp": (), "count": (FOR_EVER,)}
    return Subject(database, lambda url, mode: Listening("pgevents", url, mode, *arguments[mode]))


def _theirs(server: Any, library: Library, venvs: Dict[str, Venv]) -> Subject:
    venv = venvs[library.name]
    return Subject(
        Database(server),
        # The driver's own URL has no +psycopg2.
        lambda url, mode: Script(venv, library.script, url.replace("+psycopg2", ""), mode),
    )


def _latency(subjects: Dict[str, Subject], report: Report) -> None:
    with contextlib.ExitStack() as stack:
        variants = {}
        for name, subject in subjects.items():
            listening = stack.enter_context(subject.listen("stamp"))
            variants[name] = lambda subject=subject, listening=listening: (  # type: ignore[misc]
                latency.commits(subject.database.connect(), listening)[0]
            )
        found = interleaved(report.rounds(5), variants)
    _percentiles("Libraries, PostgreSQL: milliseconds until the listener is called", found, report)


def _percentiles(title: str, found: Dict[str, List[List[float]]], report: Report) -> None:
    rows = []
    for name, rounds in found.items():
        times = [one for round in rounds for one in round]
        rows.append(
            (
                name,
                len(times),
                "{:.2f}".format(percentile(times, 0.5)),
                "{:.2f}".format(percentile(times, 0.99)),
            )
        )
    report.table(title, ("", "commits", "p50 after COMMIT returned", "p99"), rows)


def _cost(server: Any, subjects: Dict[str, Subject], report: Report) -> None:
    """Measure the writers while somebody listens, and one large statement while nobody does."""
    bench = Pgbench(server, 2 if report.quick else 4)
    plain = Database(server)
    columns: Dict[str, Dict[str, List[float]]] = {}
    for disk, delay in DISKS.items():
        slow_down(server, delay)
        columns["commits/s, " + disk] = interleaved(
            report.rounds(5),
            {
                NOBODY: lambda: bench.run(plain, CLIENTS),
                **{
                    name: lambda subject=subject: bench.run(  # type: ignore[misc]
                        subject.database, CLIENTS, subject.listen("count")
                    )
                    for name, subject in subjects.items()
                },
            },
        )
    slow_down(server, 0)
    columns["{:,} rows, seconds".format(bulk.ROWS)] = interleaved(
        report.rounds(5),
        {
            NOBODY: lambda: bulk.insert(plain),
            **{
                name: lambda subject=subject: bulk.insert(subject.database)  # type: ignore[misc]
                for name, subject in subjects.items()
            },
        },
    )
    report.table(
        "Libraries, PostgreSQL: what {} clients commit in a second, and one large statement".format(
            CLIENTS
        ),
        ("", *(head for column in columns for head in (column, "to no trigger"))),
        [
            (
                name,
                *(
                    cell
                    for found in columns.values()
                    for cell in (
                        _number(medians(found)[name]),
                        "{:.2f}".format(ratio(found, name, NOBODY)),
                    )
                ),
            )
            for name in (NOBODY, *subjects)
        ],
    )


def _number(value: float) -> str:
    return "{:.2f}".format(value) if value < 100 else "{:,.0f}".format(value)


def _losses(subjects: Dict[str, Subject], report: Report) -> None:
    found = interleaved(
        report.rounds(3),
        {
            name: lambda subject=subject: _heard(subject)  # type: ignore[misc]
            for name, subject in subjects.items()
        },
    )
    report.table(
        "Libraries, PostgreSQL: what gets lost",
        (
            "",
            "heard of {0} events during a network outage of {1:.0f} s, and {0} after it".format(
                LOST, OUTAGE
            ),
            "a row of 10,000 characters",
        ),
        [
            (name, ", ".join(map(str, found[name])), _large(subject))
            for name, subject in subjects.items()
        ],
    )


def _heard(subject: Subject) -> int:
    """Cut the listener off, and count what it hears of the events that follow."""
    database = subject.database
    with Proxy(database.server.port) as proxy, subject.listen("stamp", proxy.port) as listening:
        database.execute(INSERT)
        listening.next()
        proxy.refuse()
        proxy.cut()
        _insert(database, LOST, OUTAGE)
        proxy.accept()
        time.sleep(OUTAGE)
        _insert(database, LOST, OUTAGE)
        heard = 0
        with contextlib.suppress(TimeoutError):
            while True:
                listening.next(SILENCE)
                heard += 1
    return heard


def _insert(database: Database, rows: int, seconds: float) -> None:
    for _ in range(rows):
        time.sleep(seconds / rows)
        database.execute(INSERT)


def _large(subject: Subject) -> str:
    with subject.listen("stamp") as listening:
        try:
            subject.database.execute(LARGE)
        except psycopg2.Error:
            return "its write fails"
        try:
            listening.next(SILENCE)
        except TimeoutError:
            return "is not heard"
    return "is heard"


def _sqlite(theirs: Dict[str, Any], report: Report) -> None:
    paths = {name: sqlite.orders() for name in (*theirs, OURS)}
    urls = {name: "sqlite:///{}".format(path) for name, path in paths.items()}
    with contextlib.ExitStack() as stack:
        listening: Dict[str, Any] = {
            name: stack.enter_context(Script(venv, library.script, urls[name], "stamp"))
            for name, (library, venv) in theirs.items()
        }
        listening[OURS] = stack.enter_context(Listening("pgevents", urls[OURS], "stamp"))
        found = interleaved(
            report.rounds(5),
            {
                name: lambda name=name: sqlite.commits(  # type: ignore[misc]
                    paths[name], listening[name], latency.COMMITS, latency.PAUSE
                )
                for name in listening
            },
        )
    _percentiles(
        "Libraries, SQLite: milliseconds from another process's commit until the listener"
        " is called",
        found,
        report,
    )
