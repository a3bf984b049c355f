"""Connections that are silent: the peer is dead, and something in between acknowledges for it."""

import contextlib
import os
import threading
import time
import types

import pytest
import sqlalchemy
from sqlalchemy.engine import make_url

import pgevents.postgres.connection
import pgevents.postgres.session
import pgevents.postgres.watchdog
from pgevents import Hub, Registry, Unavailable
from pgevents.postgres.address import Address
from pgevents.postgres.connection import connect
from pgevents.postgres.grouplog import PostgresGroupLog
from pgevents.postgres.session import Session
from pgevents.postgres.watchdog import Watch

from ..database import Postgres
from ..waiting import wait_for

NOTICED = 15.0  # seconds until a group is handled again
SILENCE = 0.6  # seconds, instead of 5


@pytest.fixture
def shop(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


@pytest.fixture
def impatient(monkeypatch):
    """All deadlines are shorter."""
    monkeypatch.setattr(pgevents.postgres.watchdog, "SILENCE", SILENCE)
    monkeypatch.setattr(pgevents.postgres.connection, "ASKED", SILENCE)
    monkeypatch.setattr(pgevents.postgres.session, "ABANDONED", 1000)


@contextlib.contextmanager
def cut_at_last(proxy):
    """End what would hang for ever, so that the test fails."""
    timer = threading.Timer(NOTICED, proxy.cut)
    timer.start()
    yield
    timer.cancel()


def hub_with(database_url, group, listener):
    registry = Registry()
    registry.listen("orders", "after_insert", listener, group=group)
    return Hub(database_url, registry)


def test_a_claim_that_fell_silent_holds_up_neither_its_group_nor_its_process(
    shop, proxy, heard, impatient, monkeypatch
):
    read = PostgresGroupLog.read
    frozen = threading.Event()

    def freeze_in_the_middle(self, *args):
        found = read(self, *args)
        if found[0] and not frozen.is_set():
            frozen.set()
            proxy.freeze()
        return found

    monkeypatch.setattr(PostgresGroupLog, "read", freeze_in_the_middle)
    with hub_with(shop.through(proxy), "stock", heard) as hanging:
        shop.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert frozen.wait(10)
        begun = time.monotonic()
        with hub_with(shop.url, "stock", heard):
            assert heard.next(timeout=NOTICED).new["item"] == "tea"
            wait_for(lambda: hanging.status()["groups"]["stock"]["error"], NOTICED)
            assert time.monotonic() - begun < NOTICED
        proxy.thaw()
        shop.execute("INSERT INTO orders (item) VALUES ('a cup')")
        assert heard.next().new["item"] == "a cup"
        wait_for(lambda: hanging.status()["groups"]["stock"]["error"] is None)


@pytest.mark.parametrize(
    "ask",
    [
        lambda hub: hub.group("stock").lag(),
        lambda hub: hub.installed(),
    ],
    ids=["lag", "installed"],
)
def test_whatever_is_asked_of_a_silent_server_fails_in_time(shop, proxy, heard, impatient, ask):
    with hub_with(shop.url, "stock", heard):
        pass
    hub = hub_with(shop.through(proxy), "stock", heard)
    with hub._backend.session():
        hub.group("stock").lag()
        proxy.freeze()
        with pytest.raises(Unavailable, match="PostgreSQL has not answered for"):
            ask(hub)
    hub.stop()


@pytest.mark.parametrize(
    "owner, last",
    [
        (pgevents.postgres.connection, "_connected"),
        (Session, "settle"),
    ],
    ids=["the login", "the settings"],
)
def test_a_server_that_is_silent_while_we_connect_is_noticed(
    server, proxy, impatient, monkeypatch, owner, last
):
    done = getattr(owner, last)

    def freeze_afterwards(*args, **more):
        found = done(*args, **more)
        proxy.freeze()
        return found

    monkeypatch.setattr(owner, last, freeze_afterwards)
    database = Postgres(server, "LATIN1")  # there is a statement behind the settings
    with cut_at_last(proxy), pytest.raises(Unavailable, match="PostgreSQL has not answered for"):
        connect(Address(make_url(database.through(proxy))))

    database.close()


def test_the_watchdog_never_runs_the_applications_code(shop, impatient):
    threads = []

    def create():
        threads.append(threading.current_thread())
        return shop.server.connect(shop.name)

    address = Address(sqlalchemy.create_engine("postgresql+psycopg2://", creator=create))
    session = connect(address)
    address.forget()  # as when a password is refused
    session.cursor().execute("SELECT pg_sleep(%s)", (SILENCE * 4,))

    assert threads == [threading.current_thread()]
    assert not session.closed
    session.close()


def without_track_activities(database):
    """Have the server keep to itself what a session does."""
    database.execute("ALTER DATABASE {} SET track_activities = off".format(database.name))
    return database.url


def with_a_role_of_its_own(database):
    """Have each session in a role that may not see what the login's sessions do."""
    login, role = database.server.create_user(), database.server.create_user()
    database.execute("GRANT {} TO {}".format(role, login))
    database.execute("ALTER ROLE {} SET role = {}".format(login, role))
    return database.server.url(database.name, login)


@pytest.mark.parametrize("hide", [without_track_activities, with_a_role_of_its_own])
@pytest.mark.every_server
def test_a_statement_may_take_as_long_as_it_likes_where_a_server_hides_what_it_does(
    shop, impatient, hide
):
    address = Address(make_url(hide(shop)))
    session, idle = connect(address), connect(address)

    session.cursor().execute("SELECT pg_sleep(%s)", (SILENCE * 4,))

    assert not session.closed
    assert idle.ask([idle.pid]) == set()
    session.close()
    idle.close()


def test_a_statement_that_the_server_works_on_may_take_as_long_as_it_likes(shop, proxy, impatient):
    session = connect(Address(make_url(shop.through(proxy))))

    session.cursor().execute("SELECT pg_sleep(%s)", (SILENCE * 4,))

    assert not session.closed
    session.close()


def test_a_lock_of_a_transaction_whose_client_is_gone_is_given_back(shop, impatient):
    session = connect(Address(make_url(shop.url)))
    session.cursor().execute("BEGIN; LOCK TABLE public.orders")

    shop.execute("INSERT INTO orders (item) VALUES ('tea')")  # waits for it

    session.close()
    assert shop.execute("SELECT item FROM orders") == [("tea",)]


def test_a_transactional_listener_may_think_for_as_long_as_it_likes(
    shop, registry, heard, impatient
):
    over = threading.Event()

    def think(event, connection):
        over.wait(2.5)
        connection.exec_driver_sql("SELECT pg_sleep(1.5)")
        heard(event)

    registry.listen("orders", "after_insert", think, group="stock", transactional=True)
    with Hub(shop.url, registry) as hub:
        shop.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert heard.next().attempt == 1
        assert hub.drain()

    assert heard.rest() == []


class Stuck:
    """A connection about which the watchdog's thread asks the kernel, and waits."""

    def __init__(self):
        self.asked, self.answer = threading.Event(), threading.Event()

    def fileno(self):
        self.asked.set()
        self.answer.wait(NOTICED)
        raise OSError


def test_no_thread_of_a_forked_child_waits_for_the_parents_watchdog(impatient, monkeypatch):
    stuck = Stuck()
    with Watch(stuck, 0, set):
        assert stuck.asked.wait(NOTICED)
        child = os.fork()
        if child == 0:
            os._exit(watched_by_two_threads(monkeypatch))
        stuck.answer.set()

    assert os.waitpid(child, 0)[1] >> 8 == 2


def watched_by_two_threads(monkeypatch):
    """Begin a statement while another thread's is the first; return how many are looked after."""
    first, second = threading.Event(), threading.Event()

    def lock():
        if not first.is_set():
            first.set()
            second.wait(2)
        return threading.Lock()

    def begin():
        Watch(None, 0, set).__enter__()

    watchdog = pgevents.postgres.watchdog
    monkeypatch.setattr(watchdog, "SILENCE", 1000)
    monkeypatch.setattr(watchdog, "threading", types.SimpleNamespace(Lock=lock))
    threads = [threading.Thread(target=begin, daemon=True) for _ in range(2)]
    threads[0].start()
    first.wait(NOTICED)
    threads[1].start()
    threads[1].join(1)
    second.set()
    threads[0].join(NOTICED)
    return 0 if threads[1].is_alive() else watchdog.of_this_process().look()
