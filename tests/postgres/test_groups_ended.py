"""The server ends a transactional listener's session: its event has failed, the others go on."""

import collections

import pytest
import sqlalchemy

from pgevents import Hub

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds; a lease is longer here
LEASE = 300


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    postgres.execute("CREATE TABLE effects (item text)")
    return postgres


def insert(database, *items):
    database.execute("INSERT INTO orders (item) SELECT unnest(%s)", list(items))


def effects(database):
    return collections.Counter(row[0] for row in database.execute("SELECT item FROM effects"))


def write(event, connection):
    connection.execute(
        sqlalchemy.text("INSERT INTO effects VALUES (:item)"), {"item": event.new["item"]}
    )


def session_of(connection):
    return connection.exec_driver_sql("SELECT pg_backend_pid()").scalar()


def wait_for_end(database, pid):
    wait_for(
        lambda: not database.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", pid), TIMEOUT
    )


def outwait(database, connection):
    """Do something else for longer than the server lets a transaction be idle."""
    wait_for_end(database, session_of(connection))


def lose(database, connection):
    """Use a session that was ended."""
    pid = session_of(connection)
    database.execute("SELECT pg_terminate_backend(%s)", pid)
    wait_for_end(database, pid)
    connection.exec_driver_sql("SELECT 1")


def overlook(database, connection):
    """Go on after that as if nothing was."""
    try:
        lose(database, connection)
    except sqlalchemy.exc.DBAPIError:
        pass


def raise_another(database, connection):
    outwait(database, connection)
    raise ValueError("the shop is closed")


@pytest.mark.parametrize(
    "act, said, ordered",
    [
        (outwait, "ended the session", True),
        (outwait, "ended the session", False),
        (lose, "ended the session", True),
        (lose, "ended the session", False),
        (overlook, "ended the session", True),
        (raise_another, "the shop is closed", False),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_an_event_whose_session_is_ended_has_failed_and_holds_nobody_up(
    orders, registry, act, said, ordered
):
    orders.server.execute(
        "ALTER DATABASE {} SET idle_in_transaction_session_timeout = '300ms'".format(orders.name)
    )
    calls = []

    def handle(event, connection):
        write(event, connection)
        if event.new["item"] == "slow":
            calls.append(event.attempt)
            act(orders, connection)

    registry.listen("orders", "after_insert", handle, group="stock", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("stock", ordered=ordered, max_attempts=2, backoff=(0.01, 0.02), lease=LEASE)
    with hub:
        insert(orders, "tea", "slow", "milk", "salt")
        (letter,) = wait_for(group.dead_letters, TIMEOUT)
        wait_for(lambda: group.lag()[0] == 0, TIMEOUT)

    assert calls == [1, 2]
    assert (letter.attempts, letter.event.new["item"]) == (2, "slow")
    assert said in letter.error
    assert effects(orders) == {"tea": 1, "milk": 1, "salt": 1}


def test_a_transaction_that_lasts_too_long_for_the_server_is_the_failure_of_its_event(
    orders, registry
):
    if orders.server.major < 17:
        pytest.skip("transaction_timeout is of PostgreSQL 17")
    orders.server.execute("ALTER DATABASE {} SET transaction_timeout = '500ms'".format(orders.name))
    calls = []

    def handle(event, connection):
        calls.append(event.new["item"])
        write(event, connection)
        if event.new["item"] == "slow":
            connection.exec_driver_sql("SELECT pg_sleep(60)")

    registry.listen("orders", "after_insert", handle, group="stock", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("stock", max_attempts=2, backoff=(0.01, 0.02), lease=LEASE)
    with hub:
        insert(orders, "tea", "slow", "milk")
        (letter,) = wait_for(group.dead_letters, TIMEOUT)
        wait_for(lambda: group.lag()[0] == 0, TIMEOUT)

    assert calls.count("slow") == 2
    assert "ended the session" in letter.error
    assert effects(orders) == {"tea": 1, "milk": 1}


def test_a_transaction_that_may_not_last_long_is_committed_in_between(
    orders, registry, monkeypatch
):
    sessions = []

    def handle(event, connection):
        write(event, connection)
        sessions.append(connection.exec_driver_sql("SELECT pg_current_xact_id()::text").scalar())

    monkeypatch.setattr("pgevents.groups.calls.SLICE", 0.0)
    registry.listen("orders", "after_insert", handle, group="stock", transactional=True)
    with Hub(orders.url, registry):
        insert(orders, *"abcdef")
        wait_for(lambda: len(effects(orders)) == 6, TIMEOUT)

    assert len(sessions) == len(set(sessions)) == 6


def test_a_session_that_ends_at_the_commit_is_that_events_failure_in_the_end(orders, registry):
    orders.execute("""
        CREATE FUNCTION end_session() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            IF NEW.item = 'bad' THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
            RETURN NULL; END $$;
        CREATE CONSTRAINT TRIGGER at_the_end AFTER INSERT ON effects
            DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION end_session()""")
    registry.listen("orders", "after_insert", write, group="stock", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("stock", max_attempts=2, backoff=(0.01, 0.02), lease=LEASE)
    with hub:
        insert(orders, "tea", "bad", "milk")
        (letter,) = wait_for(group.dead_letters, TIMEOUT)
        wait_for(lambda: group.lag()[0] == 0, TIMEOUT)

    assert "OperationalError" in letter.error or "Unavailable" in letter.error
    assert effects(orders) == {"tea": 1, "milk": 1}
