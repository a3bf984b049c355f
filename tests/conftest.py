"""What every test may ask for.

    database   a fresh database of each kind in turn: what holds for both
    sqlite     a fresh SQLite file
    postgres   a fresh database on `server`
    server     the newest PostgreSQL; with the mark `every_server` the oldest and the newest
    proxy      a proxy in front of `server`; see also `postgres.through(proxy)`
    orders     `database` with a table of orders
    registry   a registry of the test's own
    heard      a listener that remembers
    attentive  lets hubs look often where nothing happens
    gaps       what hubs have told by the signal `gap`

PGEVENTS_TEST_POSTGRES_MAJORS chooses other versions, PGEVENTS_TEST_POSTGRES one directory
of PostgreSQL's programs, PGEVENTS_TEST_REQUIRE=1 fails instead of skipping where a version
is not installed.
"""

import os
import shutil
import signal
import threading
import time

import pytest

from pgevents import Registry, signals
from pgevents.delivery import source
from pgevents.postgres import alterations
from pgevents.testing import Recorder

from . import servers as postgresql
from .database import Postgres, Sqlite
from .proxy import Proxy

#: SQLite's files lie in memory, where there is plenty of it: the disk would be waited for.
MEMORY, ROOM = "/dev/shm", 4_000_000_000  # bytes
if os.path.isdir(MEMORY) and os.access(MEMORY, os.W_OK):
    if shutil.disk_usage(MEMORY).free >= ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", MEMORY)

THREADS_TIMEOUT = 5  # seconds in which a test's threads have to end after it


def pytest_generate_tests(metafunc):
    """Decide which servers a test meets."""
    every = metafunc.definition.get_closest_marker("every_server") is not None
    if every and "server" in metafunc.fixturenames:
        majors = postgresql.wanted_majors()
        metafunc.parametrize("server", majors, ids=map(name, majors), indirect=True)
    if "database" in metafunc.fixturenames:
        majors = postgresql.wanted_majors() if every else [None]
        metafunc.parametrize(
            "database", ["sqlite", *majors], ids=["sqlite", *map(name, majors)], indirect=True
        )


def name(major):
    return "postgres{}".format(major or "")


def pytest_configure():
    # A run in the background of a shell ignores SIGINT, and so would its children.
    signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_unconfigure():
    postgresql.close()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport():
    """Make what a test logged fit to be sent to another process, half characters too."""
    report = yield
    report.sections = [
        (name, text.encode(errors="backslashreplace").decode()) for name, text in report.sections
    ]
    return report


@pytest.fixture(autouse=True)
def no_thread_left():
    """Fail a test whose threads outlive it: the next one would meet them."""
    before = {*threading.enumerate()}
    yield
    deadline = time.monotonic() + THREADS_TIMEOUT
    for thread in {*threading.enumerate()} - before:
        if thread.name == "pgevents-watchdog":
            continue  # of the whole process; it ends by itself
        thread.join(max(0, deadline - time.monotonic()))
        if thread.is_alive():
            pytest.fail("the test left a thread behind: {}".format(thread))


@pytest.fixture(scope="session")
def servers():
    """All servers of this run, started when first used."""
    pool = postgresql.Servers()
    yield pool
    pool.close()


def running(servers, major=None):
    """The server of a major version; without it the test is skipped, or fails where required."""
    try:
        return servers.get(major)
    except postgresql.NotInstalled as absent:
        if os.environ.get("PGEVENTS_TEST_REQUIRE") == "1":
            pytest.fail(str(absent))
        pytest.skip(str(absent))


@pytest.fixture
def server(request, servers):
    """A running server; it is the same one for all tests, so leave it as it was."""
    server = running(servers, getattr(request, "param", None))
    yield server
    server.start()


@pytest.fixture
def postgres(server):
    """A fresh database on the server."""
    database = Postgres(server)
    yield database
    database.close()


@pytest.fixture
def sqlite(tmp_path):
    """A fresh SQLite file."""
    database = Sqlite(tmp_path / "test.db")
    yield database
    database.close()


@pytest.fixture
def database(request, servers, tmp_path):
    """A fresh database of one kind after the other."""
    if request.param == "sqlite":
        database = Sqlite(tmp_path / "test.db")
    else:
        database = Postgres(running(servers, request.param))
    yield database
    database.close()


@pytest.fixture
def proxy(server):
    """A proxy in front of the server."""
    with Proxy(server.port, server.host) as proxy:
        yield proxy


@pytest.fixture
def registry():
    """A registry of the test's own."""
    return Registry()


@pytest.fixture
def heard():
    """A listener that remembers."""
    return Recorder()


@pytest.fixture
def attentive(monkeypatch):
    """Hubs look ten times a second at a log and a catalog where nothing happens, not in 4 s."""
    monkeypatch.setattr(source, "IDLE", 0.1)
    monkeypatch.setattr(alterations, "LOOK", 0.1)


@pytest.fixture
def gaps():
    """What was told by the signal `gap`."""
    told = []

    def tell(hub, reason):
        told.append(reason)

    with signals.gap.connected_to(tell):
        yield told


@pytest.fixture
def orders(database):
    """A table of orders: id, item, status."""
    serial = "INTEGER PRIMARY KEY" if database.kind == "sqlite" else "serial PRIMARY KEY"
    database.execute(
        "CREATE TABLE orders (id {}, item text, status text DEFAULT 'new')".format(serial)
    )
    return database
