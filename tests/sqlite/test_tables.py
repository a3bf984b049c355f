"""On SQLite, tables of every kind are captured, and stay so when they are altered."""

import sqlite3

import pytest

from pgevents import ANY, Hub


@pytest.mark.parametrize(
    "definition, key",
    [
        ("id INTEGER PRIMARY KEY, v TEXT) STRICT", 1),
        ("id INTEGER PRIMARY KEY, v ANY) STRICT", 1),
        ("id TEXT PRIMARY KEY, v) WITHOUT ROWID", "1"),
        ("id, v)", None),
        ("id, v, PRIMARY KEY (v, id))", ("tea", 1)),
        ("id, v, PRIMARY KEY (v, id)) WITHOUT ROWID", ("tea", 1)),
        ("id INTEGER PRIMARY KEY DESC, v)", 1),
    ],
)
def test_a_table_of_any_kind_is_captured(sqlite, told, definition, key):
    sqlite.execute("CREATE TABLE t ({}".format(definition))

    events = told("t", "INSERT INTO t VALUES (1, 'tea')", "UPDATE t SET id = id", "DELETE FROM t")

    assert [event.operation for event in events] == ["insert", "delete"]
    assert [event.key for event in events] == [key, key]


def test_generated_columns_are_told(sqlite, told):
    sqlite.execute("CREATE TABLE t (v, twice AS (v * 2), thrice AS (v * 3) STORED)")

    events = told("t", "INSERT INTO t VALUES (1)", "UPDATE t SET v = 2")

    assert events[0].new == {"v": 1, "twice": 2, "thrice": 3}
    assert events[1].changed == ("v", "twice", "thrice")


def test_a_replaced_row_is_inserted_again(sqlite, told):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")

    events = told("t", "INSERT INTO t VALUES (1, 'a')", "REPLACE INTO t VALUES (1, 'b')")

    assert [(event.operation, event.new["v"]) for event in events] == [
        ("insert", "a"),
        ("insert", "b"),
    ]


def test_a_replaced_row_is_deleted_first_where_triggers_recurse(sqlite, registry, heard):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    registry.listen("t", "after_change", heard)

    with Hub(sqlite.url, registry) as hub:
        connection = sqlite.connect()
        connection.execute("PRAGMA recursive_triggers = ON")
        connection.execute("INSERT INTO t VALUES (1, 'a')")
        connection.execute("REPLACE INTO t VALUES (1, 'b')")
        connection.commit()
        assert hub.drain()

    assert [event.operation for event in heard.rest()] == ["insert", "delete", "insert"]


def test_an_upsert_is_an_insert_or_an_update(sqlite, told):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    upsert = "INSERT INTO t VALUES (1, {}) ON CONFLICT (id) DO UPDATE SET v = excluded.v"

    events = told("t", upsert.format(1), upsert.format(2), upsert.format(2))

    assert [event.operation for event in events] == ["insert", "update"]
    assert (events[1].old["v"], events[1].new["v"]) == (1, 2)


def test_a_delete_of_all_rows_tells_each(sqlite, told):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY)")
    sqlite.execute("INSERT INTO t VALUES (1), (2), (3)")

    events = told("t", "DELETE FROM t")

    assert [event.key for event in events] == [1, 2, 3]


def test_what_the_applications_triggers_write_is_told(sqlite, told):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    sqlite.execute("CREATE TABLE audit (id INTEGER PRIMARY KEY, v)")
    sqlite.execute(
        "CREATE TRIGGER mine AFTER INSERT ON t BEGIN"
        " INSERT INTO audit (v) VALUES (NEW.v); UPDATE t SET v = upper(v) WHERE id = NEW.id; END"
    )

    events = told(["t", "audit"], "INSERT INTO t VALUES (1, 'tea')")

    told_by_table = sorted((event.table, event.operation, event.new["v"]) for event in events)
    assert told_by_table == [
        ("audit", "insert", "tea"),
        ("t", "insert", "tea"),
        ("t", "update", "TEA"),
    ]


def test_what_a_cascade_deletes_is_told(sqlite, registry, heard):
    sqlite.execute("CREATE TABLE a (id INTEGER PRIMARY KEY)")
    sqlite.execute("CREATE TABLE b (id INTEGER PRIMARY KEY, a REFERENCES a ON DELETE CASCADE)")
    registry.listen("b", "after_delete", heard)

    with Hub(sqlite.url, registry) as hub:
        connection = sqlite.connect()
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("INSERT INTO a VALUES (1)")
        connection.execute("INSERT INTO b VALUES (7, 1), (8, 1)")
        connection.execute("DELETE FROM a")
        connection.commit()
        assert hub.drain()

    assert [event.key for event in heard.rest()] == [7, 8]


@pytest.mark.parametrize(
    "alter", ["ADD COLUMN more DEFAULT 5", "RENAME COLUMN v TO w", "RENAME TO renamed"]
)
def test_a_table_is_altered_while_it_is_captured(sqlite, told, alter):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    name = "renamed" if "renamed" in alter else "t"

    events = told(
        "t",
        "INSERT INTO t VALUES (1, 'a')",
        "ALTER TABLE t " + alter,
        "INSERT INTO {} (id) VALUES (2)".format(name),
        "DELETE FROM {}".format(name),
    )

    assert [(event.operation, event.key) for event in events] == [
        ("insert", 1),
        ("insert", 2),
        ("delete", 1),
        ("delete", 2),
    ]


@pytest.mark.parametrize(
    "alter, column", [("ADD COLUMN more DEFAULT 5", "more"), ("RENAME COLUMN v TO w", "w")]
)
def test_an_altered_table_is_told_as_it_is_from_the_next_start_on(
    sqlite, registry, heard, alter, column
):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    registry.listen("t", "after_insert", heard)
    Hub(sqlite.url, registry).install()

    sqlite.execute("ALTER TABLE t " + alter)
    with Hub(sqlite.url, registry):
        sqlite.execute("INSERT INTO t (id, {}) VALUES (1, 'a')".format(column))
        event = heard.next()

    assert event.new[column] == "a"


def test_a_captured_column_can_be_dropped_after_uninstalling(sqlite, registry, heard):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    registry.listen("t", "after_insert", heard)
    hub = Hub(sqlite.url, registry)
    hub.install()

    with pytest.raises(sqlite3.OperationalError, match="v"):
        sqlite.execute("ALTER TABLE t DROP COLUMN v")
    hub.uninstall()
    sqlite.execute("ALTER TABLE t DROP COLUMN v")
    with hub:
        sqlite.execute("INSERT INTO t VALUES (1)")
        event = heard.next()

    assert event.new == {"id": 1}


@pytest.mark.parametrize(
    "spec, new, old, changed",
    [
        ({"include": ["a"]}, {"id": 1, "a": 2}, {"id": 1, "a": 1}, ("a",)),
        ({"exclude": ["a"]}, {"id": 1, "b": 2}, {"id": 1, "b": 1}, ("b",)),
        ({"old": False}, {"id": 1, "a": 2, "b": 2}, {"id": 1}, ()),
    ],
    ids=str,
)
def test_only_what_is_wished_for_is_captured(sqlite, registry, heard, spec, new, old, changed):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, a, b)")
    registry.listen(ANY, "after_update", heard)
    hub = Hub(sqlite.url, registry)
    hub.watch("t", **spec)

    with hub:
        sqlite.execute("INSERT INTO t VALUES (1, 1, 1)")
        sqlite.execute("UPDATE t SET a = 2, b = 2")
        event = heard.next()

    assert (event.new, event.old, event.changed) == (new, old, changed)
