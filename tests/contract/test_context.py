"""On every database, what is said around writes: whose they are, and that nobody shall hear."""

import threading

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from pgevents import Hub, UsageError

INSERT = text("INSERT INTO orders (item) VALUES ('tea')")


@pytest.fixture
def hub(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry) as hub:
        yield hub


@pytest.fixture(params=["Session", "Connection"])
def writer(request, orders):
    """A Session or Connection in a transaction."""
    engine = orders.engine()
    if request.param == "Session":
        with Session(engine) as session:
            yield session
    else:
        with engine.connect() as connection:
            if not hasattr(connection, "commit"):  # SQLAlchemy 1.4 commits by itself
                connection.commit = lambda: connection.get_transaction().commit()
                connection.rollback = lambda: connection.get_transaction().rollback()
                connection.begin()
            yield connection


def contexts(hub, heard):
    assert hub.drain()
    return [event.context for event in heard.rest()]


def test_a_context_is_that_of_the_writes_within_it(hub, heard, writer):
    writer.execute(INSERT)
    with hub.context(writer, user="ann", n=[1, None]):
        writer.execute(INSERT)
        with hub.context(writer, user="bob"):
            writer.execute(INSERT)
        writer.execute(INSERT)
    writer.execute(INSERT)
    writer.commit()

    ann = {"user": "ann", "n": [1, None]}
    assert contexts(hub, heard) == [{}, ann, {"user": "bob"}, ann, {}]


def test_a_value_may_have_any_name(hub, heard, writer):
    with hub.context(writer, **{"bind": 1, "self": 2, "values": 3, "two words": 4}):
        writer.execute(INSERT)
    writer.commit()

    assert contexts(hub, heard) == [{"bind": 1, "self": 2, "values": 3, "two words": 4}]


def test_what_is_suppressed_is_not_heard(hub, heard, writer):
    with hub.suppressed(writer):
        writer.execute(INSERT)
        with hub.context(writer, user="ann"), hub.suppressed(writer):
            writer.execute(INSERT)
        writer.execute(INSERT)
    with hub.context(writer, user="bob"):
        writer.execute(INSERT)
    writer.commit()

    assert contexts(hub, heard) == [{"user": "bob"}]


@pytest.mark.parametrize("end", ["commit", "rollback"])
def test_a_transaction_that_ends_within_the_block_ends_the_context(orders, hub, heard, writer, end):
    with hub.context(writer, user="ann"), hub.suppressed(writer):
        writer.execute(INSERT)
        getattr(writer, end)()
        orders.execute("INSERT INTO orders (item) VALUES ('other')")
        if isinstance(writer, Session):
            writer.execute(INSERT)
            writer.commit()

    expected = [{}, {}] if isinstance(writer, Session) else [{}]
    assert contexts(hub, heard) == expected
    orders.execute("INSERT INTO orders (item) VALUES ('later')")
    assert contexts(hub, heard) == [{}]


def test_a_context_does_not_touch_another_writer(orders, hub, heard):
    engine, barrier = orders.engine(), threading.Barrier(4)

    def write(name):
        barrier.wait(10)
        for _ in range(10):
            with Session(engine) as session:
                with hub.context(session, user=name):
                    session.execute(text(f"INSERT INTO orders (item) VALUES ('{name}')"))
                session.commit()

    threads = [threading.Thread(target=write, args=(str(n),)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert hub.drain()
    assert len(heard.events) == 40
    assert all(event.context == {"user": event.new["item"]} for event in heard.events)


@pytest.mark.parametrize("around", ["context", "suppressed"])
def test_an_exception_that_is_caught_ends_the_block_all_the_same(
    orders, hub, heard, writer, around
):
    values = {"user": "ann"} if around == "context" else {}
    with pytest.raises(ZeroDivisionError):
        with getattr(hub, around)(writer, **values):
            raise ZeroDivisionError
    writer.execute(INSERT)
    writer.commit()
    orders.execute("INSERT INTO orders (item) VALUES ('other')")

    assert contexts(hub, heard) == [{}, {}]


def test_a_savepoint_rolled_back_within_the_block_leaves_the_context(hub, heard, writer):
    with hub.context(writer, user="ann"):
        savepoint = writer.begin_nested()
        writer.execute(INSERT)
        savepoint.rollback()
        writer.execute(INSERT)
    writer.execute(INSERT)
    writer.commit()

    assert contexts(hub, heard) == [{"user": "ann"}, {}]


def test_postgresql_takes_the_setting_from_plain_sql(postgres, registry, heard):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard)

    with Hub(postgres.url, registry) as hub:
        for value in ('{"user": "ann"}', "no JSON"):
            postgres.execute(
                f"SET LOCAL pgevents.context = '{value}'; INSERT INTO orders DEFAULT VALUES"
            )
        postgres.execute(
            "BEGIN; SET LOCAL pgevents.capture = 'off'; INSERT INTO orders DEFAULT VALUES; COMMIT"
        )
        postgres.execute("INSERT INTO orders DEFAULT VALUES")
        found = contexts(hub, heard)

    assert found == [{"user": "ann"}, "no JSON", {}]


@pytest.mark.parametrize("around", ["context", "suppressed"])
def test_a_writer_without_a_transaction_is_refused_and_nobody_else_notices(
    hub, heard, orders, around
):
    with orders.engine(isolation_level="AUTOCOMMIT").connect() as connection:
        with pytest.raises(UsageError, match="AUTOCOMMIT|begin a transaction"):
            with (
                hub.suppressed(connection)
                if around == "suppressed"
                else hub.context(connection, user="ann")
            ):
                pass
        orders.execute("INSERT INTO orders (item) VALUES ('another writer')")
        connection.execute(INSERT)

    assert contexts(hub, heard) == [{}, {}]


def test_a_transaction_that_was_begun_by_hand_will_do(hub, heard, orders):
    with orders.engine(isolation_level="AUTOCOMMIT").connect() as connection:
        if not hasattr(connection, "commit"):  # SQLAlchemy 1.4 wants to know of a transaction
            connection.begin()
        connection.exec_driver_sql("BEGIN")
        with hub.context(connection, user="ann"):
            connection.execute(INSERT)
        connection.exec_driver_sql("COMMIT")

    assert contexts(hub, heard) == [{"user": "ann"}]


def test_a_context_that_is_too_long_is_an_error_at_once(hub, writer):
    with pytest.raises(UsageError, match="a context of .* bytes: give 65536 at the most"):
        hub.context(writer, note="x" * 65_536)
