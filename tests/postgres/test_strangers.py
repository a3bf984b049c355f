"""A role without any right takes the advisory locks that we use: it stops nobody."""

import threading
import time

import pytest

import pgevents.delivery.source
from pgevents import Hub, Registry
from pgevents.postgres import capture, log, obstacles, retention
from pgevents.testing import Recorder

from ..waiting import wait_for

AT_ONCE = 1.0  # seconds; far below the 4 s between two looks at an idle log
QUICK = 0.5  # seconds that a write may take on a machine that does other things, too


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


@pytest.fixture
def stranger(postgres, server):
    """A session of a role that may connect, and nothing else; `stranger.role` is its name."""
    role = server.create_user()
    connection = server.connect(postgres.name, role)
    connection.autocommit = True
    yield Stranger(role, connection)
    connection.close()


class Stranger:
    def __init__(self, role, connection):
        self.role = role
        self.connection = connection

    def lock(self, *keys, mode=""):
        self.connection.cursor().execute(
            "SELECT pg_advisory_lock{}({})".format(mode, ", ".join(map(str, keys)))
        )

    def let_go(self):
        self.connection.cursor().execute("SELECT pg_advisory_unlock_all()")


def hub_of(database, listener, group=None, **options):
    registry = Registry()
    registry.listen("orders", "after_insert", listener, group=group)
    return Hub(database.url, registry, **options)


def oid_of_the_log(database):
    return database.execute("SELECT 'pgevents.log'::regclass::oid::int4")[0][0]


def write(database, numbers, before=""):
    """Insert each in a transaction of its own; return how long the slowest took."""
    slowest = 0.0
    connection = database.connect()
    cursor = connection.cursor()
    for n in numbers:
        begun = time.monotonic()
        cursor.execute("SET LOCAL lock_timeout = '5s'; " + before)
        cursor.execute("INSERT INTO orders (item) VALUES (%s)", (str(n),))
        connection.commit()
        slowest = max(slowest, time.monotonic() - begun)
    connection.close()
    return slowest


@pytest.mark.parametrize("mode", ["", "_shared"], ids=["exclusive", "shared"])
@pytest.mark.parametrize("number", [1, 2])
def test_a_stranger_who_holds_a_lock_of_the_bell_stops_no_write_and_delays_no_event(
    orders, stranger, heard, monkeypatch, number, mode
):
    # What the bell misses would be found by the next look only: too late.
    # The stranger himself waits for it, too, where a reader is announced.
    monkeypatch.setattr(log, "PROBE", 10.0)
    monkeypatch.setattr(pgevents.delivery.source, "IDLE", 10.0)
    other = Recorder()

    with hub_of(orders, heard) as hub:
        stranger.lock(oid_of_the_log(orders), number, mode=mode)
        slowest = []
        for n in range(20):
            slowest.append(write(orders, [n]))
            heard.next(timeout=AT_ONCE)
        with hub_of(orders, other):  # one that comes later
            write(orders, range(20))
            assert len(other.take(20, timeout=AT_ONCE)) == 20
        stranger.let_go()
        write(orders, ["after"])
        assert [event.new["item"] for event in heard.take(21, timeout=AT_ONCE)][-1] == "after"
        assert hub.status()["connects"] == 1

    assert max(slowest) < QUICK


def test_a_reader_that_a_stranger_keeps_awake_looks_a_few_times_a_second(
    orders, stranger, heard, monkeypatch
):
    statements = []
    run = log.Listening.run
    monkeypatch.setattr(
        log.Listening, "run", lambda *args: statements.append(time.monotonic()) or run(*args)
    )

    with hub_of(orders, heard):
        oid = oid_of_the_log(orders)
        stranger.lock(oid, 1)
        stranger.lock(oid, 2)
        write(orders, [0])
        heard.next(timeout=AT_ONCE)
        begun = time.monotonic() + 0.5
        wait_for(lambda: time.monotonic() > begun + 1)

    assert len([at for at in statements if begun < at < begun + 1]) < 100


@pytest.mark.parametrize("number", [1, 2])
def test_status_names_the_session_that_holds_a_lock_of_the_bell(
    orders, stranger, heard, monkeypatch, number
):
    monkeypatch.setattr(obstacles, "LOOK", 0.2)

    with hub_of(orders, heard) as hub:
        oid = oid_of_the_log(orders)
        stranger.lock(oid, number)
        write(orders, [0])
        (warning,) = wait_for(lambda: hub.status()["warnings"])
        stranger.let_go()
        wait_for(lambda: hub.status()["warnings"] == [])

    assert stranger.role in warning
    assert "({}, {})".format(oid, number) in warning
    assert "pg_terminate_backend({})".format(stranger.connection.info.backend_pid) in warning


def test_a_transaction_that_is_open_for_long_is_no_stranger(orders, heard, monkeypatch):
    monkeypatch.setattr(obstacles, "LOOK", 0.05)
    writer = orders.connect()

    with hub_of(orders, heard) as hub:
        writer.cursor().execute("INSERT INTO orders (item) VALUES ('slow')")
        write(orders, [0])
        heard.next()
        begun = time.monotonic()
        wait_for(lambda: time.monotonic() > begun + 1)
        warnings = hub.status()["warnings"]
        writer.commit()

    assert warnings == []


def test_where_the_bell_is_off_for_a_transaction_no_stranger_stops_it(orders, stranger, heard):
    with hub_of(orders, heard) as hub:
        stranger.lock(oid_of_the_log(orders), 1)
        slowest = write(orders, range(3), "SET LOCAL pgevents.bell = 'off'")
        assert hub.drain()
        heard.take(3, timeout=AT_ONCE)

    assert slowest < QUICK


def test_a_stranger_does_not_keep_the_house_from_being_kept(orders, stranger, heard):
    hub_of(orders, heard).install()
    stranger.lock(oid_of_the_log(orders), 3)

    with hub_of(orders, heard, retention=1):
        write(orders, [0])
        wait_for(lambda: orders.execute("SELECT count(*) FROM pgevents.log") == [(0,)])


def test_status_tells_that_another_transaction_keeps_the_house_from_being_kept(
    orders, heard, monkeypatch
):
    monkeypatch.setattr(retention, "SUSPICIOUS", 0.5)
    holder = orders.connect()

    with hub_of(orders, heard, retention=1) as hub:
        wait_for(lambda: orders.execute("SELECT 1 FROM pgevents.retention"))
        holder.cursor().execute("SELECT FROM pgevents.retention FOR UPDATE")
        write(orders, [0])
        (warning,) = wait_for(lambda: hub.status()["warnings"])
        holder.rollback()
        wait_for(lambda: hub.status()["warnings"] == [])
        wait_for(lambda: orders.execute("SELECT count(*) FROM pgevents.log") == [(0,)])

    assert "pgevents.retention" in warning


def test_a_stranger_who_holds_the_lock_of_an_owner_keeps_nobody_from_listening(
    orders, stranger, heard, monkeypatch
):
    monkeypatch.setattr(log, "OWNING", 0.2)
    monkeypatch.setattr(pgevents.delivery.source, "IDLE", 0.5)
    with hub_of(orders, heard, group="mailer") as hub:
        (number,) = [
            key
            for key, in orders.execute(
                "SELECT objid::int8 FROM pg_locks WHERE locktype = 'advisory'"
                " AND mode = 'ShareLock' AND objid > 999"
            )
        ]
        orders.execute(
            "SELECT pg_terminate_backend(l.pid) FROM pg_locks l"
            " WHERE locktype = 'advisory' AND objid > 999"
        )
        stranger.lock(oid_of_the_log(orders), number)
        wait_for(lambda: hub.status()["connects"] == 2, timeout=4)
        write(orders, [0])
        heard.next(timeout=4)
        (warning,) = wait_for(lambda: hub.status()["warnings"])
        stranger.let_go()
        wait_for(lambda: hub.status()["warnings"] == [])

    assert str(number) in warning


def test_a_stranger_who_holds_the_lock_of_installs_delays_them_at_the_most(
    orders, stranger, heard, monkeypatch
):
    monkeypatch.setattr(capture, "COURTESY", 0.5)
    stranger.lock("hashtextextended('pgevents install pgevents', 0)")

    hub_of(orders, heard).install()
    with hub_of(orders, heard, service="another"):
        write(orders, [0])
        heard.next(timeout=AT_ONCE)
    hub_of(orders, heard).uninstall(everything=True)

    assert orders.execute("SELECT to_regclass('pgevents.log')") == [(None,)]


def test_processes_that_install_together_need_no_lock_that_a_stranger_could_hold(
    orders, stranger, monkeypatch
):
    monkeypatch.setattr(capture, "COURTESY", 0.0)
    stranger.lock("hashtextextended('pgevents install pgevents', 0)")
    moments = ["after_insert", "after_update", "after_delete"] * 2
    hubs, failed = [], []
    for n, moment in enumerate(moments):
        registry = Registry()
        registry.listen("orders", moment, print)
        hubs.append(Hub(orders.url, registry, service="service{}".format(n)))

    def install(hub):
        try:
            hub.install()
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=install, args=(hub,)) for hub in hubs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert failed == []
    (state,) = hubs[0].installed()
    assert state["operations"] == ["insert", "update", "delete"]
    assert len(state["services"]) == 6
    assert state["state"] == "ok"
