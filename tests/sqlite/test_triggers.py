"""On SQLite, each new connection parses all triggers: they are short, and lose nothing by it."""

import sqlite3

import pytest

from pgevents import Hub, Registry
from pgevents.sqlite import values as sqlite_values
from pgevents.sqlite.values import parse
from pgevents.tables import VERSION

WIDTHS = [3, 20, 300]  # columns: of a small table, of a usual one, of one that has no view
TYPES = ["TEXT COLLATE NOCASE", "INTEGER", "REAL", "NUMERIC", "BLOB", ""]
VALUES = [None, 1, 1.0, "1", "1.0", "a", "A", b"1", b"", "", 2**62, 0.1, -5e-324, 1e308, "a\0b"]


def trigger_texts(sqlite):
    return [
        row[0]
        for row in sqlite.execute("SELECT sql FROM sqlite_master WHERE type IN ('trigger', 'view')")
    ]


def listening(sqlite, *tables, **options):
    """A hub that has its triggers on these tables."""
    registry = Registry()
    for table in tables:
        registry.listen(table, "after_change", print)
    hub = Hub(sqlite.url, registry, **options)
    hub.install()
    return hub


def test_ten_tables_of_twenty_columns_have_few_kilobytes_of_triggers(sqlite):
    tables = ["t{}".format(n) for n in range(10)]
    for table in tables:
        columns = ", ".join("column_{}".format(n) for n in range(1, 20))
        sqlite.execute("CREATE TABLE {} (id INTEGER PRIMARY KEY, {})".format(table, columns))

    listening(sqlite, *tables)

    assert sum(map(len, trigger_texts(sqlite))) < 40_000


def test_tables_of_about_the_same_width_share_what_writes_to_the_log(sqlite):
    for name, columns in (("a", "x"), ("b", "x, y, z"), ("c", "x, y, z, v, w")):
        sqlite.execute("CREATE TABLE {} ({})".format(name, columns))

    hub = listening(sqlite, "a", "b", "c")
    shared = sum("INSERT INTO pgevents_log" in text for text in trigger_texts(sqlite))
    hub.uninstall()

    assert shared == 2
    assert trigger_texts(sqlite) == []


def test_what_no_table_writes_to_any_more_goes(sqlite):
    sqlite.execute("CREATE TABLE a (x)")
    sqlite.execute("CREATE TABLE b (x, y, z, v, w)")
    listening(sqlite, "a", service="one")
    hub = listening(sqlite, "b", service="two")

    hub.uninstall()

    names = {row[0] for row in sqlite.execute("SELECT name FROM sqlite_master WHERE type = 'view'")}
    assert names == {"pgevents_capture_4"}


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("first", TYPES, ids=lambda kind: kind or "no type")
def test_no_column_changes_the_values_of_another_by_its_type(sqlite, told, width, first):
    kinds = [first, *TYPES, *["NUMERIC"] * (width - 7)][:width]
    columns = ["c{} {}".format(n, kind) for n, kind in enumerate(kinds)]
    sqlite.execute("CREATE TABLE t ({})".format(", ".join(columns)))
    rows = [[VALUES[(n + m) % len(VALUES)] for m in range(width)] for n in range(len(VALUES))]
    statements = [("INSERT INTO t VALUES ({})".format(", ".join("?" * width)), row) for row in rows]

    told("t", *statements)

    # Not the events: SQLAlchemy makes of a value what the column's type says.
    stored = sqlite.connect().execute("SELECT * FROM t").fetchall()
    log = sqlite.execute("SELECT new FROM pgevents_log ORDER BY seq")
    logged = [tuple(parse(new).values()) for new, in log]
    assert list(map(repr, logged)) == list(map(repr, stored))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize(
    "before, after",
    [
        (1, 1.0),
        ("1", 1),
        ("a", "A"),
        (b"1", "1"),
        (None, 0),
        ("", b""),
        ("a\0b", "a\0c"),
        (0, None),
    ],
)
def test_each_difference_is_a_change_in_a_table_of_any_width(sqlite, told, width, before, after):
    more = "".join(", c{} INTEGER".format(n) for n in range(2, width))
    sqlite.execute("CREATE TABLE t (c0 INTEGER, v COLLATE NOCASE{})".format(more))
    told("t", ("INSERT INTO t (c0, v) VALUES (1, ?)", (before,)))

    events = told("t", "UPDATE t SET c0 = 1, v = v", ("UPDATE t SET v = ?", (after,)))

    assert len(events) == 1
    assert repr((events[0].old["v"], events[0].new["v"])) == repr((before, after))


@pytest.mark.parametrize("width", WIDTHS)
def test_names_with_quotes_and_cases_are_right_in_a_table_of_any_width(sqlite, told, width):
    names = ["it's", 'a "b"', "Id", "NEW", "k", "o", "n", "m", "z", "i", "f", "NULL", "select"]
    names = (names + ["x'{}\"".format(n) for n in range(width)])[:width]
    quoted = ['"{}"'.format(name.replace('"', '""')) for name in names]
    sqlite.execute("CREATE TABLE t ({})".format(", ".join(quoted)))
    row = dict(zip(names, range(width)))

    events = told(
        "t",
        "INSERT INTO t VALUES ({})".format(", ".join(map(str, range(width)))),
        "UPDATE t SET {} = -1".format(quoted[1]),
        "DELETE FROM t",
    )

    assert (events[0].new, events[1].old) == (row, row)
    assert events[1].new == events[2].old == {**row, names[1]: -1}


@pytest.mark.parametrize("width", WIDTHS)
def test_old_rows_are_kept_by_their_key_alone_in_a_table_of_any_width(sqlite, told, width):
    columns = ["c{}".format(n) for n in range(width)]
    sqlite.execute("CREATE TABLE t ({}, PRIMARY KEY (c2, c1))".format(", ".join(columns)))
    values = ", ".join(map(str, range(width)))

    events = told(
        "t",
        "INSERT INTO t VALUES ({})".format(values),
        "UPDATE t SET c0 = -1",
        "DELETE FROM t",
        old=False,
    )

    assert [event.operation for event in events] == ["insert", "update", "delete"]
    assert events[1].old == events[2].old == {"c1": 1, "c2": 2}
    assert events[1].new == {**dict(zip(columns, range(width))), "c0": -1}


@pytest.fixture
def small_limit(monkeypatch):
    """What is too large for the log is small: what really is, test_writes.py tests."""
    monkeypatch.setattr(sqlite_values, "LARGEST", 80_000)


@pytest.mark.parametrize("width", [20, 300])
def test_of_a_row_that_is_too_large_the_small_values_are_told_at_any_width(
    sqlite, told, width, small_limit
):
    columns = ", ".join("c{}".format(n) for n in range(width))
    sqlite.execute("CREATE TABLE t ({})".format(columns))
    sql = "INSERT INTO t (c0, c1, c2, c3) VALUES (zeroblob(80000), 'tea', 1.5, 'x')"

    (event,) = told("t", sql)

    assert event.new["c0"] == "(left out of the log: 80000 bytes)"
    assert (event.new["c1"], event.new["c2"], event.new["c4"]) == ("tea", 1.5, None)


@pytest.mark.parametrize("old", [True, False])
@pytest.mark.parametrize("width", [4, 300])
def test_a_change_of_what_is_too_large_for_the_log_is_told_and_its_repetition_is_not(
    sqlite, told, width, old, small_limit
):
    columns = ", ".join("c{}".format(n) for n in range(3, width))
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v, c2, {})".format(columns))
    fill = "UPDATE t SET v = CAST(zeroblob(80001) AS {})"

    events = told(
        "t",
        "INSERT INTO t (id, v) VALUES (1, zeroblob(80001))",
        "UPDATE t SET v = v",
        fill.format("BLOB"),
        fill.format("TEXT"),
        fill.format("TEXT"),
        old=old,
    )

    left_out = "(left out of the log: 80001 bytes)"
    assert [(event.operation, event.new["v"]) for event in events] == [
        ("insert", left_out),
        ("update", left_out),
    ]


@pytest.mark.parametrize("old", [True, False])
def test_an_update_that_changes_nothing_is_no_event_and_one_of_a_type_is(sqlite, told, old):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v, w)")

    events = told(
        "t",
        "INSERT INTO t VALUES (1, 1, 0.0)",
        "UPDATE t SET v = v",
        "UPDATE t SET w = -0.0",
        "UPDATE t SET v = 1.0",
        old=old,
    )

    assert [event.operation for event in events] == ["insert", "update"]
    assert type(events[1].new["v"]) is float


def test_of_a_row_that_is_too_large_each_value_is_told_that_is_within_its_share(
    sqlite, told, small_limit
):
    sqlite.execute("CREATE TABLE t (a, b, c, d)")
    values = [
        "zeroblob(60001)",
        "zeroblob(20000)",
        "CAST(zeroblob(20000) AS TEXT)",
        "1e99",
    ]

    (event,) = told("t", "INSERT INTO t VALUES ({})".format(", ".join(values)))

    assert event.new["a"] == "(left out of the log: 60001 bytes)"
    assert (len(event.new["b"]), len(event.new["c"]), event.new["d"]) == (20_000,) * 2 + (1e99,)


def test_a_trigger_of_another_text_is_replaced_at_start_and_then_left_alone(sqlite, heard):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")
    listening(sqlite, "t", service="app")
    where = "WHERE type = 'trigger' AND name IN ('pgevents_capture_4', 'pgevents_update_t')"
    made = sqlite.execute("SELECT name, sql FROM sqlite_master {} ORDER BY 1".format(where))
    for name, text in made:
        sqlite.execute("DROP TRIGGER {}".format(name))
        sqlite.execute(text.replace("BEGIN /* pgevents {} */".format(VERSION), "BEGIN SELECT 1;"))
    registry = Registry()
    registry.listen("t", "after_change", heard)

    with Hub(sqlite.url, registry, service="app"):
        healed = sqlite.execute("SELECT name, sql FROM sqlite_master {} ORDER BY 1".format(where))
        version = sqlite.execute("PRAGMA schema_version")
        sqlite.execute("INSERT INTO t VALUES (1, 'tea')")
        event = heard.next()
    with Hub(sqlite.url, registry, service="app"):
        again = sqlite.execute("PRAGMA schema_version")

    assert len(made) == 2 and healed == made
    assert event.new == {"id": 1, "v": "tea"}
    assert again == version


def test_a_table_of_two_thousand_columns_is_captured_and_copied_for_a_group(sqlite, heard):
    columns = ["column_{}".format(n) for n in range(2000)]
    sqlite.execute("CREATE TABLE t ({})".format(", ".join(columns)))
    sqlite.execute("INSERT INTO t (column_1, column_1999) VALUES (1.5, 'early')")
    registry = Registry()
    registry.listen("t", "after_change", heard, group="readers")
    hub = Hub(sqlite.url, registry)
    hub.group("readers", start="backfill")

    with hub:
        first = heard.next(timeout=30)
        sqlite.execute("UPDATE t SET column_1998 = x'ff'")
        second = heard.next(timeout=30)

    assert (first.new["column_1"], first.new["column_1999"]) == (1.5, "early")
    assert list(second.new) == columns and second.changed == ("column_1998",)


@pytest.mark.parametrize("text", ["x" * 65_536, "\U0001f375" * 16_384], ids=["ascii", "wide"])
def test_a_context_is_kept_up_to_its_limit_and_cut_beyond(sqlite, told, text):
    sqlite.execute("CREATE TABLE t (v)")

    def write(context):
        (event,) = told(
            "t",
            ("INSERT INTO pgevents_settings VALUES ('context', ?)", (context,)),
            "INSERT INTO t VALUES (1)",
            "DELETE FROM pgevents_settings",
        )
        return event.context

    kept, cut = write(text), write(text + "y")

    assert kept == text
    assert cut == text[:16_384] + "... (cut)"


def test_the_triggers_of_a_later_release_are_left_alone(sqlite):
    sqlite.execute("CREATE TABLE t (v)")
    hub = listening(sqlite, "t")
    name, text = sqlite.execute(
        "SELECT name, sql FROM sqlite_master WHERE name = 'pgevents_insert_t'"
    )[0]
    later = text.replace("pgevents {} ".format(VERSION), "pgevents {} ".format(VERSION + 1))
    sqlite.execute("DROP TRIGGER pgevents_insert_t")
    sqlite.execute(later)

    hub.install()

    assert later in trigger_texts(sqlite)
    assert hub.installed()[0]["state"] == "ok"


def test_a_writer_that_trusts_no_schema_is_served_where_sqlite_lets_functions_be_used(sqlite, told):
    sqlite.execute("CREATE TABLE t (v)")
    told("t")
    connection = sqlite.connect()
    connection.execute("PRAGMA trusted_schema = OFF")

    if (3, 39) <= sqlite3.sqlite_version_info < (3, 42):
        with pytest.raises(sqlite3.OperationalError, match="unsafe use of json"):
            connection.execute("INSERT INTO t VALUES (1)")
    else:
        connection.execute("INSERT INTO t VALUES (1)")
        connection.commit()
        assert told("t")[0].new == {"v": 1}
