"""Connections to PostgreSQL die, hang and are refused; nothing is lost and nothing repeated."""

import logging
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
import time

import psycopg2
import pytest
import sqlalchemy
from sqlalchemy.engine import make_url

import pgevents.delivery.source
import pgevents.postgres.log
from pgevents import Denied, Hub, Unavailable, Unsupported, signals
from pgevents.postgres.connection import Address, Listening
from pgevents.postgres.log import LogReader
from pgevents.threads import Waker

from .. import servers as postgresql
from ..database import Postgres
from ..orders import items
from ..waiting import wait_for

NOTICED = 10.0  # seconds in which a dead peer has to be noticed
AT_ONCE = 1.0  # seconds; far below the 4 s between two looks at an idle log


@pytest.fixture
def shop(postgres):
    """A database with a table of orders."""
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


@pytest.fixture
def listening(registry, heard):
    """A registry whose one listener is `heard`."""
    registry.listens_for("orders", "after_insert")(heard)
    return registry


def order(database, *items):
    connection = database.connect()
    connection.autocommit = True
    for item in items:
        connection.cursor().execute("INSERT INTO orders (item) VALUES (%s)", (str(item),))
    connection.close()


def terminate(database):
    """End all connections of hubs; return how many there were."""
    return len(
        database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'pgevents' AND datname = %s",
            database.name,
        )
    )


def announced(database):
    """Return whether a reader has said that it sleeps: writers ring for it."""
    return database.execute(
        "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
        " AND l.objid = 2 AND l.mode = 'ShareLock' AND a.datname = %s",
        database.name,
    )


def asleep(database):
    """Tell whether a reader has announced that it sleeps, and does nothing."""
    return database.execute(
        "SELECT 1 FROM pg_locks l JOIN pg_stat_activity a USING (pid) WHERE l.locktype = 'advisory'"
        " AND l.objid = 2 AND l.mode = 'ShareLock' AND a.datname = %s AND a.state = 'idle'"
        " AND a.state_change < clock_timestamp() - interval '20 ms'",
        database.name,
    )


# Lost, and found again.


def test_a_connection_terminated_in_a_burst_loses_and_repeats_nothing(shop, listening, heard):
    many = [str(n) for n in range(10000)]

    with Hub(shop.url, listening) as hub:
        writer = threading.Thread(target=order, args=(shop, *many))
        writer.start()
        while writer.is_alive():
            wait_for(lambda: terminate(shop) or not writer.is_alive())
        assert hub.drain(30)  # it may be in the longest pause between two attempts
        connects = hub.status()["connects"]

    assert items(heard.rest()) == many
    assert connects > 1  # it came back, however soon it was cut off again


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restart_of_the_server_loses_and_repeats_nothing(shop, listening, heard, mode):
    with Hub(shop.url, listening) as hub:
        order(shop, "before")
        assert items(heard.take(1)) == ["before"]
        order(shop, "just before")
        shop.server.restart(mode)
        order(shop, "after")
        assert items(heard.take(2)) == ["just before", "after"]
        assert hub.drain()

    assert heard.rest() == []


def test_an_outage_of_seconds_is_told_and_survived(shop, listening, heard, caplog):
    told = []

    def attempts():
        return [record for record in caplog.records if "trying again" in record.getMessage()]

    def tell(hub, **details):
        told.append(details)

    with Hub(shop.url, listening) as hub, signals.disconnected.connected_to(tell, hub):
        with signals.connected.connected_to(tell, hub):
            shop.server.stop("fast")
            wait_for(lambda: len(attempts()) == 6)  # the sixth comes after about 3 s
            status = hub.status()
            shop.server.start()
            order(shop, "after")
            heard.next()

    assert status["state"] == "connecting"
    assert "PostgreSQL" in status["error"]
    assert [sorted(details) for details in told] == [["error", "retry_in"], []]
    assert {record.levelno for record in attempts()} == {logging.WARNING}


def test_a_peer_that_is_silent_is_noticed_in_time(shop, proxy, listening, heard):
    with Hub(shop.through(proxy), listening) as hub:
        wait_for(lambda: asleep(shop))
        proxy.freeze()
        order(shop, "meanwhile")
        wait_for(lambda: hub.status()["state"] == "connecting", NOTICED)
        proxy.thaw()
        assert items(heard.take(1)) == ["meanwhile"]
        assert hub.drain()

    assert heard.rest() == []


#: Six rows of 320 kB that cannot be compressed.
LARGE = """INSERT INTO orders (item) SELECT string_agg(md5(random()::text), '')
             FROM generate_series(1, 60000) i GROUP BY i % 6"""


def test_what_takes_longer_than_the_deadline_arrives_over_a_slow_link(
    shop, proxy, listening, heard, monkeypatch
):
    monkeypatch.setattr(pgevents.postgres.log, "ANSWER", 1.0)

    with Hub(shop.through(proxy), listening) as hub:
        proxy.throttle(700_000)
        begun = time.monotonic()
        shop.execute(LARGE)
        found = heard.take(6)
        seconds = time.monotonic() - begun
        connects = hub.status()["connects"]

    assert [len(event.new["item"]) for event in found] == [320_000] * 6
    assert (seconds > 2, connects) == (True, 1)


def test_a_link_that_falls_silent_in_the_middle_of_an_answer_is_noticed_in_time(
    shop, proxy, listening, heard, monkeypatch
):
    monkeypatch.setattr(pgevents.postgres.log, "ANSWER", 2.0)

    with Hub(shop.through(proxy), listening) as hub:
        proxy.throttle(100_000)
        shop.execute(LARGE)
        wait_for(lambda: not asleep(shop))
        proxy.freeze()
        wait_for(lambda: hub.status()["state"] == "connecting", NOTICED - 3)
        proxy.throttle(None)
        assert len(heard.take(6)) == 6


def test_a_log_that_is_slow_to_read_is_waited_for_longer_and_longer(
    shop, listening, heard, monkeypatch
):
    locked, over = threading.Event(), threading.Event()

    def block():
        connection = shop.connect()
        connection.cursor().execute("LOCK TABLE pgevents.log IN ACCESS EXCLUSIVE MODE")
        locked.set()
        wait_for(lambda: hub.status()["state"] == "connecting")
        connection.commit()
        # From now on each statement that reads the log waits for the rest of half a second.
        while not over.is_set():
            connection.cursor().execute(
                "LOCK TABLE pgevents.log IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(0.5)"
            )
            connection.commit()

    with Hub(shop.url, listening) as hub:
        monkeypatch.setattr(pgevents.postgres.log, "ANSWER", 0.2)
        order(shop, "early")  # after the read that finds it, the next one has 0.2 s
        heard.next()
        before = hub.status()["connects"]
        blocker = threading.Thread(target=block)
        blocker.start()
        locked.wait(20)
        order(shop, "tea")
        item = heard.next(timeout=20).new["item"]
        over.set()
        blocker.join()
        connects = hub.status()["connects"]

    assert item == "tea"
    assert connects > before


def test_what_waits_for_room_is_not_lost_with_the_connection(shop, registry, heard):
    go_on = threading.Event()

    @registry.listens_for("orders", "after_insert")
    def slow(event):
        go_on.wait(20)
        heard(event)

    with Hub(shop.url, registry, queue_size=2) as hub:
        shop.execute("INSERT INTO orders (item) SELECT generate_series(0, 7)")
        wait_for(lambda: hub.status()["waiting"] == 2)  # two are with the listener, four nowhere
        order(shop, 8, 9)
        terminate(shop)
        wait_for(lambda: hub.status()["connects"] == 2)
        go_on.set()
        assert hub.drain()

    assert items(heard.rest()) == [str(n) for n in range(10)]


def test_numbers_of_transactions_that_a_crash_forgot_are_used_again(servers, listening, heard):
    # What was rolled back last need not be on disk: after a crash the next
    # transactions bear the same numbers, which the cursor has seen as ended.
    installation = postgresql.installations()[postgresql.wanted_majors()[-1]]
    with postgresql.Server(installation, wal_writer_delay="10s") as server:
        database = Postgres(server)
        database.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
        with Hub(database.url, listening) as hub:
            order(database, "before")
            heard.next()
            writer = database.connect()
            for _ in range(50):
                writer.cursor().execute("SELECT pg_current_xact_id()")
                writer.rollback()
            assert hub.drain()
            server.restart("immediate")
            order(database, *range(20))
            assert hub.drain()
            terminate(database)
            order(database, "after")
            assert hub.drain()

        assert items(heard.rest()) == [*map(str, range(20)), "after"]


# Refused.


def bound(url, kind):
    return sqlalchemy.create_engine(url) if kind == "engine" else url


@pytest.mark.parametrize("kind", ["url", "engine"])
def test_a_start_that_is_refused_raises_and_leaves_nothing(shop, proxy, listening, kind):
    proxy.refuse()
    hub = Hub(bound(shop.through(proxy), kind), listening)

    begun = time.monotonic()
    with pytest.raises(Unavailable, match="no connection to PostgreSQL: .*refused"):
        hub.start(timeout=0.5)

    assert time.monotonic() - begun >= 0.5
    assert hub.status()["state"] == "stopped"


def test_a_start_that_waits_goes_on_trying_until_its_time_is_over(shop, proxy, listening, heard):
    proxy.refuse()
    hub = Hub(shop.through(proxy), listening)
    starting = threading.Thread(target=hub.start)

    starting.start()
    try:
        wait_for(lambda: "refused" in (hub.status()["error"] or ""))
        proxy.accept()
        starting.join(20)
        order(shop, "after")
        heard.next()
    finally:
        hub.stop()


@pytest.mark.parametrize("wrong", ["user", "database"])
def test_a_start_does_not_wait_for_what_time_does_not_mend(shop, listening, wrong):
    url = make_url(shop.url).set(**{{"user": "username"}.get(wrong, wrong): "nobody-here"})

    begun = time.monotonic()
    with pytest.raises(Denied, match="nobody-here. does not exist"):
        Hub(url, listening).start(timeout=60)

    assert time.monotonic() - begun < 20


@pytest.mark.parametrize("kind", ["url", "engine"])
def test_a_start_that_does_not_wait_connects_later_by_itself(shop, proxy, listening, heard, kind):
    proxy.refuse()
    hub = Hub(bound(shop.through(proxy), kind), listening)

    hub.start(wait=False)
    try:
        wait_for(lambda: "refused" in (hub.status()["error"] or ""))
        assert not hub.wait_ready(timeout=0.01)
        proxy.accept()
        assert hub.wait_ready()
        order(shop, "after")
        heard.next()
    finally:
        hub.stop()


def test_a_wrong_password_is_one_clear_error_that_does_not_repeat_it(shop, listening):
    user = shop.server.create_user("right@%")
    url = shop.server.url(shop.name, user=user, password="wr0ng")

    with pytest.raises(Denied, match="password authentication failed") as caught:
        Hub(url, listening).start()

    assert "wr0ng" not in str(caught.value)


def test_too_many_connections_pass(shop, listening, heard):
    user = shop.server.create_user()
    shop.execute('GRANT CREATE ON DATABASE "{}" TO {}'.format(shop.name, user))
    shop.execute("ALTER TABLE orders OWNER TO {}".format(user))
    shop.execute("ALTER ROLE {} CONNECTION LIMIT 0".format(user))
    hub = Hub(shop.server.url(shop.name, user=user), listening)

    with pytest.raises(Unavailable, match="too many connections"):
        hub.start(timeout=0.1)
    hub.start(wait=False)
    try:
        shop.execute("ALTER ROLE {} CONNECTION LIMIT -1".format(user))
        assert hub.wait_ready()
        order(shop, "tea")
        heard.next()
    finally:
        hub.stop()


class Standby(postgresql.Server):
    """A hot standby of another server."""

    def __init__(self, primary):
        self._primary = primary
        super().__init__(primary.installation)

    def _initdb(self, settings):
        self.installation.run(
            "pg_basebackup",
            "-h",
            self._primary.host,
            "-p",
            self._primary.port,
            "-U",
            "postgres",
            "-D",
            self.data,
            "-R",
            "-X",
            "stream",
            "-c",
            "fast",
        )
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(
                "port = {}\nunix_socket_directories = '{}'\n".format(self.port, self.directory)
            )


@pytest.mark.parametrize("installed", [True, False], ids=["installed", "bare"])
def test_a_standby_is_refused_in_one_clear_sentence(shop, listening, installed):
    if not (shop.server.installation.bin / "pg_basebackup").exists():
        pytest.skip("this PostgreSQL comes without pg_basebackup")
    if installed:
        Hub(shop.url, listening).install()

    with Standby(shop.server) as standby:
        with pytest.raises(Unsupported, match="this server is a standby.*address of the primary"):
            Hub(standby.url(shop.name), listening).start()


# Poolers.


class PgBouncer:
    """A PgBouncer before a server, in a process of its own."""

    def __init__(self, server, mode):
        program = shutil.which("pgbouncer", path="/usr/sbin:/usr/bin:/usr/local/bin")
        if program is None:
            pytest.skip("PgBouncer is not installed")
        self.port = postgresql.free_port()
        self._server = server
        directory = postgresql.home().directory("pgbouncer")
        file = directory / "pgbouncer.ini"
        file.write_text(
            "[databases]\n* = host={} port={} user=postgres\n"
            "[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\nauth_type = any\n"
            "pool_mode = {}\nunix_socket_dir =\n".format(server.host, server.port, self.port, mode)
        )
        # It refuses to run as root, as PostgreSQL does.
        command = [program, "-q", str(file)]
        if postgresql.os.getuid() == 0:
            command[:0] = [sys.executable, "-I", "-S", "-c", postgresql.DEMOTE]
        self._process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )

    def __enter__(self):
        wait_for(self._answers)
        return self

    def __exit__(self, *exc_info):
        self._process.terminate()
        self._process.wait()

    def _answers(self):
        assert self._process.poll() is None, "PgBouncer has ended"
        try:
            psycopg2.connect(
                host="127.0.0.1", port=self.port, user="postgres", dbname="postgres"
            ).close()
        except psycopg2.OperationalError:
            return False
        return True


def test_a_pooler_in_transaction_mode_is_refused_in_one_clear_sentence(shop, listening):
    with PgBouncer(shop.server, "transaction") as pooler:
        with pytest.raises(Unsupported, match="a pooler in transaction mode.*direct address"):
            Hub(shop.through(pooler), listening).start()

    locks = shop.execute(
        "SELECT 1 FROM pg_locks l JOIN pg_database d ON d.oid = l.database"
        " WHERE locktype = 'advisory' AND datname = %s",
        shop.name,
    )
    assert locks == []


def test_a_pooler_in_session_mode_serves(shop, listening, heard):
    with PgBouncer(shop.server, "session") as pooler:
        with Hub(shop.through(pooler), listening):
            wait_for(lambda: asleep(shop))
            order(shop, "tea")
            heard.next(timeout=AT_ONCE)


def test_writers_behind_a_pooler_in_transaction_mode_ring(shop, listening, heard):
    with PgBouncer(shop.server, "transaction") as pooler, Hub(shop.url, listening):
        writer = psycopg2.connect(
            host="127.0.0.1", port=pooler.port, user="postgres", dbname=shop.name
        )
        writer.autocommit = True
        for n in range(20):
            wait_for(lambda: asleep(shop))
            writer.cursor().execute("INSERT INTO orders (item) VALUES ('tea')")
            heard.next(timeout=AT_ONCE)
        writer.close()


# Addresses.


def test_every_form_of_a_url_leads_to_the_database(shop, listening, heard, monkeypatch, tmp_path):
    server = shop.server
    user = server.create_user("p@ss%2F:word")
    shop.execute('GRANT CREATE ON DATABASE "{}" TO {}'.format(shop.name, user))
    shop.execute("ALTER TABLE orders OWNER TO {}".format(user))
    service = tmp_path / "services.conf"
    service.write_text(
        "[shop]\nhost=127.0.0.1\nport={}\ndbname={}\nuser={}\npassword={}\n".format(
            server.port, shop.name, user, "p@ss%2F:word"
        )
    )
    monkeypatch.setenv("PGSERVICEFILE", str(service))
    direct = server.url(shop.name, user=user, password="p@ss%2F:word", driver="{}")
    urls = [
        direct.format("postgresql"),
        direct.format("postgresql+psycopg2"),
        direct.format("postgresql+psycopg"),
        direct.format("postgresql+pg8000"),
        direct.format("postgresql") + "?sslmode=disable",
        direct.format("postgresql") + "?application_name=it%27s%20mine",
        "postgresql:///{}?host={}&port={}&user={}".format(
            shop.name, server.socket_directory, server.port, user
        ),
        "postgresql:///?service=shop",
    ]

    for url in urls:
        with Hub(url, listening):
            order(shop, url)
            assert items(heard.take(1)) == [url]


def test_the_databases_default_for_transactions_does_not_matter(shop, listening, heard):
    listening.listen("orders", "after_insert", heard, group="stock")
    for default in ["isolation = 'serializable'", "deferrable = on", "read_only = on"]:
        shop.server.execute(
            "ALTER DATABASE {} SET default_transaction_{}".format(shop.name, default)
        )
    writer = shop.connect()
    writer.set_session(readonly=False)

    with Hub(shop.url, listening, retention=1) as hub:
        writer.cursor().execute("INSERT INTO orders (item) VALUES ('tea')")
        writer.commit()
        assert items(heard.take(2)) == ["tea", "tea"]
        wait_for(lambda: shop.execute("SELECT count(*) FROM pgevents.log") == [(0,)])
        with hub._backend.connection() as connection, connection.cursor() as cursor:
            cursor.execute("SHOW transaction_isolation")
            assert cursor.fetchone() == ("read committed",)


def test_connections_of_ours_may_be_idle_for_as_long_as_they_like(shop, listening, heard, caplog):
    shop.server.execute("ALTER DATABASE {} SET idle_session_timeout = '50ms'".format(shop.name))
    listening.listen("orders", "after_insert", heard, group="stock")

    def rested():
        return (
            len(
                shop.execute(
                    "SELECT 1 FROM pg_stat_activity"
                    " WHERE application_name = 'pgevents' AND datname = %s"
                    " AND state = 'idle' AND state_change < clock_timestamp() - interval '0.3 s'",
                    shop.name,
                )
            )
            >= 2
        )

    with Hub(shop.url, listening) as hub:
        wait_for(rested)
        order(shop, "tea")
        assert items(heard.take(2)) == ["tea", "tea"]
        assert hub.status()["connects"] == 1

    assert [record for record in caplog.records if record.levelno >= logging.WARNING] == []


def test_the_options_of_a_url_count(shop, registry, heard):
    shop.execute('CREATE SCHEMA "Sales-1"')
    shop.execute('CREATE TABLE "Sales-1".invoices (id int PRIMARY KEY)')
    registry.listens_for("invoices", "after_insert")(heard)

    with Hub(shop.url + '?options=-csearch_path%3D"Sales-1"', registry):
        shop.execute('INSERT INTO "Sales-1".invoices VALUES (7)')
        event = heard.next()

    assert (event.schema, event.key) == ("Sales-1", 7)


def test_what_an_engine_adds_to_its_url_counts(shop, registry, heard):
    shop.execute("CREATE SCHEMA sales")
    shop.execute("CREATE TABLE sales.invoices (id int PRIMARY KEY)")
    registry.listens_for("invoices", "after_insert")(heard)
    options = {"options": "-csearch_path=sales"}
    engines = [
        sqlalchemy.create_engine(shop.url, connect_args=options),
        sqlalchemy.create_engine(
            "postgresql+psycopg2://", creator=lambda: shop.server.connect(shop.name, **options)
        ),
    ]

    for number, engine in enumerate(engines):
        with Hub(engine, registry):
            shop.execute("INSERT INTO sales.invoices VALUES (%s)", number)
            assert heard.next().key == number
        engine.dispose()


def test_an_engine_whose_pool_is_used_up_can_be_started(shop, listening, heard):
    engine = sqlalchemy.create_engine(shop.url, pool_size=1, max_overflow=0, pool_timeout=1)

    with engine.connect(), Hub(engine, listening):
        order(shop, "tea")
        heard.next()

    engine.dispose()


# What "postgresql" alone means depends on the version of SQLAlchemy, and 1.4 has no psycopg.
DRIVERS = ["postgresql", "postgresql+pg8000"]
if sqlalchemy.__version__ >= "2":
    DRIVERS.append("postgresql+psycopg")


@pytest.mark.parametrize("driver", DRIVERS)
def test_an_engine_of_another_driver_is_listened_for(shop, listening, heard, driver):
    engine = sqlalchemy.create_engine(make_url(shop.url).set(drivername=driver))

    with Hub(engine, listening):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("INSERT INTO orders (item) VALUES ('tea')"))
        heard.next()

    engine.dispose()


# The bell.


def test_a_sleeping_reader_is_rung_at_once(shop, listening, heard):
    with Hub(shop.url, listening):
        for n in range(20):
            wait_for(lambda: asleep(shop))
            order(shop, n)
            heard.next(timeout=AT_ONCE)


@pytest.mark.parametrize("late", [False, True], ids=["awake", "lying down"])
def test_a_busy_reader_is_not_rung(shop, registry, monkeypatch, late):
    go_on = threading.Event()
    registry.listens_for("orders", "after_insert")(lambda event: go_on.wait(300))
    read, written = LogReader._read_fresh, []

    def read_late(reader, announced=False):
        # What it finds now was written after it had announced that it sleeps.
        if late and announced and not written:
            written.append(True)
            order(shop, *range(10))
        return read(reader, announced)

    monkeypatch.setattr(LogReader, "_read_fresh", read_late)
    with Hub(shop.url, registry, queue_size=1) as hub:
        bystander = spy(shop)
        if not late:
            order(shop, *range(10))
        # One is with the listener, one in the queue: the reader waits with the third.
        wait_for(lambda: hub.status()["read"] > 2)
        wait_for(lambda: not announced(shop))
        drain_notifies(bystander)
        order(shop, *range(100))
        rung = drain_notifies(bystander)
        go_on.set()
        assert hub.drain()

    assert rung == 0


def test_a_writer_that_is_cancelled_leaves_no_lock_with_its_session(shop, listening):
    Hub(shop.url, listening).install()
    writer, canceller = shop.connect(), shop.connect()
    writer.autocommit = canceller.autocommit = True
    over = threading.Event()

    def cancel():
        while not over.wait(0.0002):
            canceller.cursor().execute("SELECT pg_cancel_backend(%s)", (writer.info.backend_pid,))

    thread = threading.Thread(target=cancel)
    thread.start()
    cancelled = 0
    while cancelled < 2000:
        try:
            writer.cursor().execute("INSERT INTO orders (item) VALUES ('tea')")
        except psycopg2.errors.QueryCanceled:
            cancelled += 1
    over.set()
    thread.join()

    # No reader could lie down, or wake up, as long as this session lives.
    assert (
        shop.execute(
            "SELECT mode FROM pg_locks WHERE locktype = 'advisory' AND pid = %s",
            writer.info.backend_pid,
        )
        == []
    )


def spy(database):
    """A connection that hears the bell, too."""
    connection = database.connect()
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("SELECT 'pgevents.log'::regclass::oid")
    cursor.execute("LISTEN pgevents_{}".format(cursor.fetchone()[0]))
    return connection


def drain_notifies(connection):
    connection.cursor().execute("SELECT 1")
    connection.poll()
    found = len(connection.notifies)
    connection.notifies.clear()
    return found


def test_no_commit_is_missed_while_the_reader_lies_down(shop, listening, heard, monkeypatch):
    # Whatever the bell misses would be found by the next look only: too late.
    monkeypatch.setattr(pgevents.postgres.log, "PROBE", 60.0)
    monkeypatch.setattr(pgevents.delivery.source, "IDLE", 60.0)
    commits, pauses = 700, (0, 0, 0.0005, 0.001, 0.003, 0.01)

    def write(seed):
        chance = postgresql.random.Random(seed)
        connection = shop.connect()
        cursor = connection.cursor()
        for n in range(commits):
            cursor.execute("INSERT INTO orders (item) VALUES (clock_timestamp()::text)")
            time.sleep(chance.choice(pauses))  # a writer that is under way
            connection.commit()
            time.sleep(chance.choice(pauses))

    late = []
    listening.listens_for("orders", "after_insert")(
        lambda event: late.append(time.time() - event.at.timestamp())
    )
    with Hub(shop.url, listening):
        writers = [threading.Thread(target=write, args=(n,)) for n in range(4)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        found = heard.take(4 * commits, timeout=AT_ONCE)

    assert len({event.key for event in found}) == 4 * commits
    assert max(late) < AT_ONCE


def test_a_transaction_that_stays_open_costs_a_few_looks_a_second(
    shop, listening, heard, monkeypatch
):
    monkeypatch.setattr(pgevents.postgres.log, "PROBE", 60.0)
    monkeypatch.setattr(pgevents.delivery.source, "IDLE", 60.0)
    statements = []
    run = Listening.run
    monkeypatch.setattr(
        Listening, "run", lambda *args: statements.append(time.monotonic()) or run(*args)
    )

    with Hub(shop.url, listening):
        writer = shop.connect()
        writer.cursor().execute("INSERT INTO orders (item) VALUES ('late')")
        begun = time.monotonic()
        order(shop, "early")  # wakes the reader
        assert items([heard.next(timeout=AT_ONCE)]) == ["early"]
        wait_for(lambda: time.monotonic() > begun + 4)
        order(shop, "rung")
        assert items([heard.next(timeout=AT_ONCE)]) == ["rung"]
        last_second = [at for at in statements if begun + 3 < at < begun + 4]
        writer.commit()
        assert items([heard.next(timeout=AT_ONCE)]) == ["late"]

    assert len(last_second) < 100


def test_what_came_with_the_answer_to_a_statement_ends_the_next_sleep(shop):
    waker = Waker()
    connection = Listening(Address(make_url(shop.url)), waker)
    connection.connect()
    connection.run("LISTEN bell", None, 5)

    shop.execute("NOTIFY bell")
    connection.run("SELECT 1", None, 5)
    begun = time.monotonic()
    connection.sleep(5)

    assert time.monotonic() - begun < AT_ONCE
    assert connection.notified()
    connection.close()
    waker.close()


def test_without_the_bell_the_reader_looks_by_itself(shop, listening, heard):
    with Hub(shop.url, listening, bell=False):
        bystander = spy(shop)
        order(shop, "tea")
        heard.next(timeout=AT_ONCE)
        writer = shop.connect()
        writer.cursor().execute("INSERT INTO orders (item) VALUES ('prepared')")
        writer.cursor().execute("PREPARE TRANSACTION 'gid'")
        writer.commit()
        order(shop, "between")
        assert heard.next(timeout=AT_ONCE).new["item"] == "between"
        shop.execute("COMMIT PREPARED 'gid'")
        assert heard.next(timeout=AT_ONCE).new["item"] == "prepared"

    assert drain_notifies(bystander) == 0


# Large logs.


def test_a_backlog_is_read_in_pages_exactly_while_others_write(
    shop, proxy, listening, heard, monkeypatch
):
    monkeypatch.setattr(pgevents.postgres.log, "PAGE_ROWS", 20)
    late = shop.connect()

    with Hub(shop.through(proxy), listening) as hub:
        proxy.refuse()
        proxy.cut()
        late.cursor().execute("INSERT INTO orders (item) VALUES ('late')")
        shop.execute("INSERT INTO orders (item) SELECT generate_series(1, 5000)")
        writers = [threading.Thread(target=order, args=(shop, *range(300))) for _ in range(3)]
        for writer in writers:
            writer.start()
        proxy.accept()
        for writer in writers:
            writer.join()
        late.commit()
        assert hub.drain(30)

    found = [event.position for event in heard.rest()]
    assert sorted(found) == [
        seq for seq, in shop.execute("SELECT seq FROM pgevents.log ORDER BY seq")
    ]


def test_a_log_that_keeps_many_rows_is_read_as_fast(shop, listening, heard):
    def seconds_of_a_look():
        begun = time.monotonic()
        for _ in range(50):
            hub.drain()
        return (time.monotonic() - begun) / 50

    with Hub(shop.url, listening) as hub:
        before = seconds_of_a_look()
        shop.execute("INSERT INTO orders (item) SELECT generate_series(1, 200000)")
        assert hub.drain(60)
        after = seconds_of_a_look()

    print("a look took {:.2f} ms, with 200,000 rows {:.2f} ms".format(before * 1e3, after * 1e3))
    assert len(heard.rest()) == 200000


def test_a_notification_that_comes_with_an_answer_wakes_at_once(postgres):
    waker = Waker()
    listening = Listening(Address(make_url(postgres.url)), waker)
    listening.connect()
    listening.run("LISTEN bell", None, 10)
    listening._cursor.execute("SELECT 'answered'")
    with socket.socket(fileno=os.dup(listening._connection.fileno())) as peeking:

        def arrived(word):
            there = select.select([peeking], [], [], 0)[0]
            return there and word in peeking.recv(65536, socket.MSG_PEEK)

        wait_for(lambda: arrived(b"answered"))
        postgres.execute("NOTIFY bell")
        wait_for(lambda: arrived(b"bell"))
    listening._finish(10)

    listening.sleep(0)

    assert listening.notified()
    listening.close()
    waker.close()
