"""A migration that runs beside hubs: nothing stands in its way, and nothing is missed."""

import pytest
import sqlalchemy
from sqlalchemy import text
from sqlalchemy.orm import Session

from pgevents import DatabaseError, Hub, Registry, UsageError

STATEMENTS = {
    "drop a column": ["ALTER TABLE orders DROP COLUMN status"],
    "rename a column": ["ALTER TABLE orders RENAME COLUMN status TO state"],
    "add a column": ["ALTER TABLE orders ADD COLUMN note text"],
}
ANEW = [
    "CREATE TABLE young (id INTEGER PRIMARY KEY, item text)",
    "INSERT INTO young SELECT id, item FROM orders",
    "DROP TABLE orders",
    "ALTER TABLE young RENAME TO orders",
]


@pytest.fixture
def running(orders, registry, heard):
    """A hub that runs, and hears of orders."""
    registry.listen("orders", "after_change", heard)
    with Hub(orders.url, registry) as hub:
        yield hub


def columns(heard):
    return list(heard.next().new)


@pytest.mark.parametrize("statements", STATEMENTS.values(), ids=STATEMENTS)
def test_a_table_is_altered_beside_a_running_hub_and_nothing_is_missed(
    orders, running, heard, gaps, statements
):
    engine = orders.engine()
    migration = Hub(orders.url, Registry())
    orders.execute("INSERT INTO orders (id, item) VALUES (1, 'before')")
    heard.next()

    with engine.begin() as connection:
        connection.execute(text("INSERT INTO orders (id, item) VALUES (2, 'early')"))
        with migration.altering(connection, "orders"):
            for statement in statements:
                connection.execute(text(statement))
        connection.execute(text("INSERT INTO orders (id, item) VALUES (3, 'late')"))
    orders.execute("INSERT INTO orders (id, item) VALUES (4, 'after')")
    keys = [event.key for event in heard.take(3)]
    assert running.drain()

    assert keys == [2, 3, 4]
    assert gaps == []


def test_columns_are_dropped_again_and_again_beside_a_running_hub(orders, registry, heard, gaps):
    registry.listen("orders", "after_change", heard)
    engine = orders.engine()
    for number in range(20):
        orders.execute("ALTER TABLE orders ADD COLUMN more{} int".format(number))

    with Hub(orders.url, registry) as hub:
        for number in range(20):
            with engine.begin() as connection, hub.altering(connection, "orders"):
                connection.execute(text("ALTER TABLE orders DROP COLUMN more{}".format(number)))
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        told = columns(heard)
        assert hub.drain()

    assert told == ["id", "item", "status"]
    assert gaps == []


@pytest.mark.parametrize("call", ["look", "install"])
def test_a_column_that_is_dropped_while_a_hub_looks_is_missed_by_nobody(
    orders, registry, heard, gaps, monkeypatch, call
):
    registry.listen("orders", "after_change", heard)
    hub = Hub(orders.url, registry)
    hub.install()
    hub._upkeep.begin()
    if call == "install":  # something is lost, and the table is altered before it is brought back
        on = "" if orders.kind == "sqlite" else " ON orders"
        name = "pgevents_insert_orders" if orders.kind == "sqlite" else "pgevents_insert"
        orders.execute("DROP TRIGGER {}{}".format(name, on))
    original, engine, calls = getattr(hub._backend, call), orders.engine(), []

    def too_late(*arguments, **options):
        calls.append(arguments)
        if len(calls) == 1:
            with engine.begin() as connection, hub.altering(connection, "orders"):
                connection.execute(text("ALTER TABLE orders DROP COLUMN status"))
        return original(*arguments, **options)

    monkeypatch.setattr(hub._backend, call, too_late)
    hub._upkeep.check()

    assert len(gaps) == (call == "install")
    assert hub.status()["warnings"] == []
    assert [table["state"] for table in hub.installed()] == ["ok"]
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")


def test_a_migration_that_is_rolled_back_leaves_all_as_it_was(orders, running, heard, gaps):
    engine = orders.engine()
    before = running.installed()

    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        with running.altering(connection, "orders"):
            connection.execute(text("ALTER TABLE orders DROP COLUMN status"))
            raise ZeroDivisionError
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")

    assert columns(heard) == ["id", "item", "status"]
    assert running.installed() == before
    assert gaps == []


def test_a_block_that_failed_and_is_committed_all_the_same_is_captured(orders, running, heard):
    with orders.engine().begin() as connection:
        with pytest.raises(ZeroDivisionError), running.altering(connection, "orders"):
            connection.execute(text("ALTER TABLE orders ADD COLUMN note text"))
            raise ZeroDivisionError
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")

    assert "note" in columns(heard)


def test_what_waits_for_a_group_outlives_a_migration(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry):
        pass
    orders.execute("INSERT INTO orders (item) VALUES ('waiting')")

    with orders.engine().begin() as connection, Hub(orders.url, registry).altering(connection):
        connection.execute(text("ALTER TABLE orders DROP COLUMN status"))
    orders.execute("INSERT INTO orders (item) VALUES ('later')")
    with Hub(orders.url, registry):
        items = [event.new["item"] for event in heard.take(2)]

    assert items == ["waiting", "later"]


def test_a_session_may_alter_what_it_writes_to(orders, running, heard, gaps):
    with Session(orders.engine()) as session:
        with running.altering(session, "orders"):
            session.execute(text("ALTER TABLE orders DROP COLUMN status"))
        session.execute(text("INSERT INTO orders (item) VALUES ('tea')"))
        session.commit()

    assert columns(heard) == ["id", "item"]


def test_a_table_that_there_is_not_is_refused(sqlite, registry):
    sqlite.execute("CREATE TABLE orders (id int)")
    hub = Hub(sqlite.url, registry)

    with sqlite.engine().begin() as connection, pytest.raises(UsageError, match="ordres"):
        with hub.altering(connection, "ordres"):
            pass


def table_of_orders(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item text, status text)")


def test_a_commit_that_fails_leaves_no_transaction_behind(sqlite, registry):
    table_of_orders(sqlite)
    sqlite.execute(
        "CREATE TABLE lines (id INTEGER PRIMARY KEY,"
        " order_id int REFERENCES orders DEFERRABLE INITIALLY DEFERRED)"
    )
    registry.listen("lines", "after_insert", print)
    hub = Hub(sqlite.url, registry)
    hub.install()
    connection = sqlite.connect()
    connection.isolation_level = None
    connection.execute("PRAGMA foreign_keys = on")

    with pytest.raises(DatabaseError, match="FOREIGN KEY"), hub.altering(connection, "lines"):
        connection.execute("ALTER TABLE lines ADD COLUMN note text")
        connection.execute("INSERT INTO lines VALUES (1, 99, 'of no order')")

    assert not connection.in_transaction
    sqlite.execute("INSERT INTO orders (item) VALUES ('tea')")  # nobody is locked out


@pytest.mark.parametrize("autocommit", [False, True], ids=["legacy", "autocommit"])
def test_sqlite3s_own_connection_may_make_a_table_anew(sqlite, registry, heard, gaps, autocommit):
    table_of_orders(sqlite)
    registry.listen("orders", "after_change", heard)
    connection = sqlite.connect()
    connection.isolation_level = None if autocommit else ""
    connection.row_factory = lambda cursor, row: {"row": row}

    with Hub(sqlite.url, registry) as hub:
        with hub.altering(connection, "orders"):
            for statement in ANEW:
                connection.execute(statement)
        sqlite.execute("INSERT INTO orders (item) VALUES ('tea')")
        told = columns(heard)
        assert hub.drain()

    assert told == ["id", "item"]
    assert gaps == []


@pytest.mark.parametrize("options", [{"isolation_level": "AUTOCOMMIT"}, {}], ids=str)
def test_an_engine_that_commits_each_statement_alters_in_one_transaction(
    sqlite, registry, heard, gaps, options
):
    table_of_orders(sqlite)
    registry.listen("orders", "after_change", heard)
    engine = sqlite.engine(**options)

    with Hub(sqlite.url, registry) as hub:
        with engine.connect() as connection:
            with hub.altering(connection, "orders"):
                for statement in ANEW:
                    connection.execute(text(statement))
            if hasattr(connection, "commit"):  # SQLAlchemy 1.4 has none, and commits by itself
                connection.commit()
        sqlite.execute("INSERT INTO orders (item) VALUES ('tea')")
        told = columns(heard)
        assert hub.drain()

    assert told == ["id", "item"]
    assert gaps == []


def test_a_migration_that_commits_in_between_is_not_disturbed_and_is_told(
    sqlite, registry, heard, gaps
):
    table_of_orders(sqlite)
    registry.listen("orders", "after_change", heard)

    with Hub(sqlite.url, registry) as hub:
        connection = sqlite.connect()
        with hub.altering(connection, "orders"):
            connection.commit()
            hub._upkeep.check()
            connection.execute("ALTER TABLE orders DROP COLUMN status")
        sqlite.execute("INSERT INTO orders (item) VALUES ('tea')")
        told = columns(heard)

    assert told == ["id", "item"]
    assert any("is being altered" in gap for gap in gaps)


def test_a_migration_that_never_came_back_keeps_its_table_for_a_minute(
    sqlite, registry, heard, monkeypatch
):
    table_of_orders(sqlite)
    registry.listen("orders", "after_change", heard)
    monkeypatch.setattr("pgevents.sqlite.capture.PATIENCE", -1.0)

    with Hub(sqlite.url, registry) as hub:
        connection = sqlite.connect()
        block = hub.altering(connection, "orders")
        block.__enter__()
        connection.commit()
        hub._upkeep.check()
        sqlite.execute("INSERT INTO orders (item) VALUES ('tea')")

        assert columns(heard) == ["id", "item", "status"]


def test_another_databases_connection_is_refused(sqlite, postgres, registry):
    sqlite.execute("CREATE TABLE orders (id int)")
    hub = Hub(sqlite.url, registry)

    with postgres.engine().begin() as connection:
        with pytest.raises(UsageError, match="writes to postgresql database"):
            with hub.altering(connection, "orders"):
                pass


def test_what_is_no_connection_is_refused(sqlite, registry):
    hub = Hub(sqlite.url, registry)

    with pytest.raises(UsageError, match="not Engine"):
        with hub.altering(sqlalchemy.create_engine(sqlite.url)):
            pass
