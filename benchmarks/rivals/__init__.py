"""Other people's durable queues beside a group, each in a virtual environment of its own.

    sqlspec_events      sqlspec's events extension, its queue
    sqlspec_channels    the same, publishing and listening
    pgevents_channels   pgevents beside it
    procrastinate_jobs  procrastinate
    pgqueuer_jobs       pgqueuer
    …_listener          no queues: see benchmarks/libraries.py
    venvs               how they are installed, and run

They are no dependencies of pgevents: what cannot be installed is left out.
"""

import contextlib
import sqlite3
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from tests.servers import home

from ..backlog import Backlog, PostgresBacklog, SqliteBacklog
from ..members import Member
from ..report import Report, interleaved, medians, ratio, spread
from .venvs import Missing, Venv

EVENTS = 2000  # that wait: some take longer for each, the more there are
OURS, SINGLY = "pgevents", "pgevents, batch_size=1"


class Rival(NamedTuple):
    """A package, what else it needs, the script that runs it, and whether it knows SQLite."""

    package: str
    needs: List[str]
    script: str
    arguments: Tuple[str, ...] = ()
    sqlite: bool = False

    def seconds(self, venv: Venv, url: str, events: int) -> float:
        """Let it handle so many events; return how long that took."""
        return venv.seconds(self.script, url, events, *self.arguments)


RIVALS = [
    Rival("sqlspec", ["psycopg[binary,pool]"], "sqlspec_events", ("poll_queue",), sqlite=True),
    Rival("sqlspec", ["psycopg[binary,pool]"], "sqlspec_events", ("notify_queue",)),
    Rival("procrastinate", ["psycopg[binary,pool]"], "procrastinate_jobs"),
    Rival("pgqueuer", ["psycopg[binary]"], "pgqueuer_jobs"),
]


def measure(server: Any, report: Report) -> None:
    """Measure one process each, with the same number of events that wait, and no more."""
    events = EVENTS // 4 if report.quick else EVENTS

    def postgres() -> str:
        return str(server.url(server.create_database(), driver="postgresql"))

    venvs, missing = _running(postgres)
    there = [rival for rival in RIVALS if rival.package in venvs]
    on_sqlite = [rival for rival in there if rival.sqlite]
    _compare("PostgreSQL", lambda: PostgresBacklog(server), postgres, events, there, venvs, report)
    _compare("SQLite", SqliteBacklog, _file, events, on_sqlite, venvs, report)
    for name, reason in missing.items():
        report.say("{} was not measured: {}".format(name, reason))


def _running(fresh: Callable[[], str]) -> Tuple[Dict[str, Venv], Dict[str, str]]:
    """Install the packages, and try each; return those that run, and why others do not."""
    venvs: Dict[str, Venv] = {}
    missing: Dict[str, str] = {}
    for rival in RIVALS:
        name = rival.package
        try:
            if name not in venvs:
                venvs[name] = Venv(name, [name, *rival.needs])
            rival.seconds(venvs[name], fresh(), 10)
        except Missing as reason:
            venvs.pop(name, None)
            missing[name] = str(reason)
    return venvs, missing


def _compare(
    where: str,
    make: Callable[[], Backlog],
    fresh: Callable[[], str],
    events: int,
    rivals: List[Rival],
    venvs: Dict[str, Venv],
    report: Report,
) -> None:
    ours, singly = make(), make()
    ours.define()
    singly.define(batch_size=1)
    variants: Dict[str, Callable[[], float]] = {
        OURS: lambda: _rate(ours, events),
        SINGLY: lambda: _rate(singly, events, batch_size=1),
    }
    for rival in rivals:
        venv = venvs[rival.package]
        variants[" ".join([rival.package, venv.version(), *rival.arguments])] = (
            lambda rival=rival, venv=venv: events  # type: ignore[misc]
            / rival.seconds(venv, fresh(), events)
        )
    found = interleaved(report.rounds(3), variants)
    report.table(
        "Groups and queues, {}: events in a second through one process, {:,} waiting".format(
            where, events
        ),
        ("", "median", "rounds", "to " + OURS),
        _rows(found),
    )


def _rows(found: Dict[str, List[float]]) -> Sequence[Sequence[str]]:
    return [
        (
            name,
            "{:,.0f}".format(median),
            spread(found[name]),
            "{:.3f}".format(ratio(found, name, OURS)),
        )
        for name, median in medians(found).items()
    ]


def _rate(backlog: Backlog, events: int, **options: Any) -> float:
    backlog.refill(events)
    with Member(backlog.url, "count", events, **options) as member:
        begun = member.begin()
        return events / (member.next() - begun)


def _file() -> str:
    path = home().directory("sqlite") / "events.db"
    with contextlib.closing(sqlite3.connect(str(path))) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
    return "sqlite:///{}".format(path)
