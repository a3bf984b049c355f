"""Mistakes in what is to be captured are found at once, and said clearly."""

import pytest

from pgevents import Hub, Registry, UsageError


def started(database, target, **options):
    """Start a hub that listens to a target, for the error."""
    registry = Registry()
    registry.listen(target, "after_insert", print)
    with Hub(database.url, registry, **options):
        pytest.fail("it has started")


def nothing_is_installed(database):
    if database.kind == "sqlite":
        sql = "SELECT count(*) FROM sqlite_master WHERE name LIKE 'pgevents%'"
    else:
        sql = "SELECT count(*) FROM pg_namespace WHERE nspname = 'pgevents'"
    return database.execute(sql) == [(0,)]


def test_an_unknown_table_is_an_error_with_the_near_names(orders):
    orders.execute("CREATE TABLE customers (id int PRIMARY KEY)")

    with pytest.raises(UsageError) as caught:
        started(orders, "order")

    assert "no table 'order'" in str(caught.value)
    assert "there are orders" in str(caught.value)
    assert nothing_is_installed(orders)


def test_where_nothing_is_near_some_tables_are_named(orders):
    with pytest.raises(UsageError, match="there are orders"):
        started(orders, "xyzzy")


def test_without_tables_that_is_said(orders):
    orders.execute("DROP TABLE orders")

    for _ in range(2):  # the log is there the second time, and nobody means its tables
        with pytest.raises(UsageError, match="there are no tables"):
            started(orders, "orders")
        Hub(orders.url, Registry()).install()


def test_a_view_cannot_be_listened_to(orders):
    orders.execute("CREATE VIEW paid AS SELECT * FROM orders WHERE status = 'paid'")

    with pytest.raises(UsageError, match="'paid' is a view"):
        started(orders, "paid")


def test_the_log_cannot_be_listened_to(orders):
    started_once = Registry()
    started_once.listen("orders", "after_insert", print)
    Hub(orders.url, started_once).install()

    with pytest.raises(UsageError, match="pgevents itself"):
        started(orders, "pgevents_log" if orders.kind == "sqlite" else "pgevents.log")


def test_a_temporary_table_is_refused(postgres):
    # Each session sees only its own: ask for one by its own schema's name.
    session = postgres.connect()
    session.autocommit = True
    cursor = session.cursor()
    cursor.execute("CREATE TEMP TABLE carts (id int)")
    cursor.execute("SELECT nspname FROM pg_namespace WHERE oid = pg_my_temp_schema()")

    with pytest.raises(UsageError, match="temporary table"):
        started(postgres, cursor.fetchone()[0] + ".carts")


def test_a_virtual_table_is_refused(sqlite):
    sqlite.execute("CREATE VIRTUAL TABLE words USING fts4(body)")

    with pytest.raises(UsageError, match="virtual table"):
        started(sqlite, "words")


def test_an_attached_database_is_refused(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")

    with pytest.raises(UsageError, match="attached"):
        started(sqlite, "other.orders")


@pytest.mark.parametrize("columns", [{"include": ["id", "prize"]}, {"exclude": ["prize"]}])
def test_an_unknown_column_to_watch_is_an_error_with_the_columns(orders, columns):
    hub = Hub(orders.url, Registry())
    hub.watch("orders", **columns)

    with pytest.raises(UsageError) as caught:
        hub.install()

    assert "orders.prize, which is no column; there are id, item, status" in str(caught.value)
    assert nothing_is_installed(orders)


def test_an_unknown_column_of_a_listener_is_an_error_with_the_columns(orders):
    registry = Registry()
    registry.listen("orders", "after_update", print, columns=["stauts"])

    with pytest.raises(UsageError) as caught:
        Hub(orders.url, registry).start()

    assert "orders.stauts, which is no column; there are id, item, status" in str(caught.value)
    assert nothing_is_installed(orders)


def test_include_and_exclude_together_are_refused(orders):
    hub = Hub(orders.url, Registry())

    with pytest.raises(UsageError, match="not both"):
        hub.watch("orders", include=["id"], exclude=["item"])
    with pytest.raises(UsageError, match="lists of column names"):
        hub.watch("orders", include="item")


@pytest.mark.parametrize(
    "schema", ["Shop", "a-b", "", "1a", "pg_events", "a" * 41, "a b", 'a"b', "a;b", "é", "log\n"]
)
def test_a_schema_that_cannot_be_a_name_is_refused(orders, schema):
    with pytest.raises(UsageError, match="lower-case letters"):
        Hub(orders.url, Registry(), schema=schema)


def test_uninstalling_under_a_running_hub_of_ones_own_is_refused(orders):
    registry = Registry()
    registry.listen("orders", "after_insert", print)

    with Hub(orders.url, registry) as hub:
        with pytest.raises(UsageError, match="stop the hub first"):
            hub.uninstall()

        assert hub.installed()[0]["state"] == "ok"
