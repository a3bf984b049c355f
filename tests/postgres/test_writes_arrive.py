"""Whatever the statement, each changed row is one event, in order."""

import io

import psycopg2
import pytest

from pgevents import Hub, Registry

from .test_writes import kinds, make, operations, specs


def told(events):
    """What happened, in short: operation, old id, new id."""
    return [(e.operation, e.old and e.old["id"], e.new and e.new["id"]) for e in events]


@kinds
def test_copy(captured, kind):
    table = make(captured, "id int, item text", kind)
    writer = captured.connect()

    writer.cursor().copy_expert("COPY {} FROM STDIN".format(table), io.StringIO("1\ta\n2\tb\n"))
    writer.commit()

    assert told(captured.events()) == [("insert", None, 1), ("insert", None, 2)]


@kinds
def test_on_conflict_do_update_is_an_update_where_there_was_a_row(captured, kind):
    table = make(captured, "id int PRIMARY KEY, item text", kind)
    upsert = (
        "INSERT INTO {} VALUES (1, '{}') ON CONFLICT (id)" " DO UPDATE SET item = excluded.item"
    )
    nothing = "INSERT INTO {} VALUES (1, 'x') ON CONFLICT DO NOTHING"

    events = captured.write(
        upsert.format(table, "tea"), upsert.format(table, "milk"), nothing.format(table)
    )

    assert told(events) == [("insert", None, 1), ("update", 1, 1)]
    assert events[1].changed == ("item",)


@kinds
def test_merge(captured, kind):
    if captured.major < 15:
        pytest.skip("PostgreSQL 15 brought MERGE")
    table = make(captured, "id int PRIMARY KEY, item text", kind)
    captured.write("INSERT INTO {} VALUES (1, 'a'), (2, 'b')".format(table))

    events = captured.write(
        "MERGE INTO {} t USING (VALUES (1), (2), (3)) s (id) ON s.id = t.id"
        " WHEN MATCHED AND s.id = 1 THEN UPDATE SET item = 'new' WHEN MATCHED THEN DELETE"
        " WHEN NOT MATCHED THEN INSERT VALUES (s.id, 'c')".format(table)
    )

    assert sorted(told(events), key=str) == [
        ("delete", 2, None),
        ("insert", None, 3),
        ("update", 1, 1),
    ]


@kinds
@pytest.mark.parametrize("action", ["CASCADE", "SET NULL", "SET DEFAULT"])
def test_a_foreign_keys_action(captured, kind, action):
    parent = captured.table("id int PRIMARY KEY", old=False)
    child = make(
        captured,
        "id int, parent int DEFAULT NULL REFERENCES {} ON DELETE {}".format(parent, action),
        kind,
    )
    captured.write(
        "INSERT INTO {} VALUES (1), (2)".format(parent),
        "INSERT INTO {} VALUES (5, 1), (6, 2), (7, 1)".format(child),
    )

    events = captured.write("DELETE FROM {} WHERE id = 1".format(parent))

    wanted = "delete" if action == "CASCADE" else "update"
    assert [(e.operation, e.old["id"]) for e in events if e.table == child] == [
        (wanted, 5),
        (wanted, 7),
    ]
    assert [(e.operation, e.key) for e in events if e.table == parent] == [("delete", 1)]


@kinds
def test_a_rule_a_function_a_view_and_a_trigger_of_the_application(captured, kind):
    table = make(captured, "id int, item text", kind)
    other = captured.table("id int")
    captured.execute(
        "CREATE RULE copy_{0} AS ON INSERT TO {1} DO ALSO INSERT INTO {0}"
        " VALUES (new.id + 10)".format(table, other)
    )
    captured.execute(
        "CREATE FUNCTION add_{0}(n int) RETURNS void LANGUAGE plpgsql AS"
        " $$ BEGIN INSERT INTO {0} VALUES (n); END $$".format(table)
    )
    captured.execute("CREATE VIEW v_{0} AS SELECT * FROM {0}".format(table))

    events = captured.write(
        "INSERT INTO {} VALUES (1)".format(other),
        "SELECT add_{}(2)".format(table),
        "INSERT INTO v_{} VALUES (3)".format(table),
    )

    assert [e.new["id"] for e in events if e.table == table] == [11, 2, 3]


@kinds
def test_statements_with_data_modifying_queries(captured, kind):
    table = make(captured, "id int, item text", kind)
    other = captured.table("id int")
    captured.write("INSERT INTO {} VALUES (1), (2)".format(table))

    events = captured.write(
        "WITH gone AS (DELETE FROM {0} WHERE id = 1 RETURNING id),"
        " more AS (INSERT INTO {0} VALUES (3)), changed AS (UPDATE {0} SET item = 'x' WHERE id = 2)"
        " INSERT INTO {1} SELECT id FROM gone".format(table, other)
    )

    assert sorted(told(events), key=str) == [
        ("delete", 1, None),
        ("insert", None, 1),
        ("insert", None, 3),
        ("update", 2, 2),
    ]


@kinds
def test_old_and_new_rows_of_a_large_update_belong_together(captured, kind):
    table = make(captured, "id int, number int", kind)
    captured.write("INSERT INTO {} SELECT i, i FROM generate_series(1, 5000) i".format(table))

    events = captured.write("UPDATE {} SET id = id + 10000, number = -number".format(table))

    assert len(events) == 5000
    assert all(e.new == {"id": e.old["id"] + 10000, "number": -e.old["number"]} for e in events)


@kinds
def test_three_updates_are_three_events_and_an_idle_one_is_none(captured, kind):
    table = make(captured, "id int PRIMARY KEY, item text", kind)
    update = "UPDATE {} SET item = '{}'"

    events = captured.write_together(
        "INSERT INTO {} VALUES (1, 'a')".format(table),
        update.format(table, "b"),
        update.format(table, "c"),
        update.format(table, "c"),
        update.format(table, "b"),
        "UPDATE {} SET id = 2".format(table),
    )

    assert [(e.old and e.old["item"], e.new["item"]) for e in events] == [
        (None, "a"),
        ("a", "b"),
        ("b", "c"),
        ("c", "b"),
        ("b", "b"),
    ]
    assert events[-1].key_changed and events[-1].old["id"] == 1 and events[-1].key == 2


@kinds
def test_savepoints_and_statement_errors(captured, kind):
    table = make(captured, "id int PRIMARY KEY", kind)
    insert = "INSERT INTO {} VALUES ({})"
    writer = captured.connect()
    cursor = writer.cursor()

    cursor.execute(insert.format(table, 1))
    cursor.execute("SAVEPOINT s")
    cursor.execute(insert.format(table, 2))
    with pytest.raises(psycopg2.errors.UniqueViolation):
        cursor.execute(insert.format(table, 1))
    cursor.execute("ROLLBACK TO s")
    cursor.execute(insert.format(table, 3))
    cursor.execute("RELEASE s")
    writer.commit()

    assert told(captured.events()) == [("insert", None, 1), ("insert", None, 3)]


def test_a_hundred_thousand_rows_arrive_in_order(captured):
    table = captured.table("id int PRIMARY KEY, item text")

    events = captured.write(
        "INSERT INTO {} SELECT i, 'tea' FROM generate_series(1, 100000) i".format(table)
    )

    assert [event.key for event in events] == list(range(1, 100001))


def test_commits_out_of_order(captured):
    table = captured.table("id int")
    writers = [captured.connect() for _ in range(4)]
    for number, writer in enumerate(writers):
        writer.cursor().execute("INSERT INTO {} VALUES ({})".format(table, number))

    heard = []
    for number in [2, 1, 3]:
        writers[number].commit()
        heard += captured.events()
    writers[0].rollback()

    assert [event.new["id"] for event in heard + captured.events()] == [2, 1, 3]


@kinds
def test_truncate(captured, kind):
    table = make(captured, "id int PRIMARY KEY", kind)
    child = captured.table("parent int REFERENCES {}".format(table))

    events = captured.write("TRUNCATE {}".format(child), "TRUNCATE {} CASCADE".format(table))

    assert operations(events) == ["truncate"] * 3
    assert events[0].table == child
    assert {event.table for event in events[1:]} == {table, child}


PREPARED = ["SET LOCAL pgevents.bell = 'off'", "INSERT INTO {} VALUES (1)"]


@pytest.mark.parametrize("end, wanted", [("COMMIT", 1), ("ROLLBACK", 0)])
def test_prepared_transactions_with_the_bell_off(captured, end, wanted):
    table = captured.table("id int")
    name = "prepared_" + table

    before = captured.write_together(
        *(statement.format(table) for statement in PREPARED),
        "PREPARE TRANSACTION '{}'".format(name),
    )
    after = captured.write("{} PREPARED '{}'".format(end, name))

    assert (len(before), len(after)) == (0, wanted)


def test_prepared_transactions_with_a_hub_without_bell(postgres, heard):
    postgres.execute("CREATE TABLE orders (id int)")
    registry = Registry()
    registry.listen("orders", "after_insert", heard)

    with Hub(postgres.url, registry, bell=False) as hub:
        assert hub.drain()
        writer = postgres.connect()
        writer.cursor().execute("INSERT INTO orders VALUES (1)")
        writer.cursor().execute("PREPARE TRANSACTION 'p'")
        writer.commit()
        assert hub.drain()
        before = heard.rest()
        postgres.execute("COMMIT PREPARED 'p'")
        event = heard.next()

    assert before == []
    assert event.new == {"id": 1}


@pytest.mark.parametrize("spec", [{}, {"exclude": ["note"]}], ids=["whole", "in part"])
def test_a_large_update_after_many_small_ones_in_a_session_takes_no_quadratic_time(captured, spec):
    table = captured.table("id int PRIMARY KEY, item int, note text", **spec)
    captured.execute("INSERT INTO {} SELECT g, 0 FROM generate_series(1, 20000) g".format(table))
    writer = captured.connect()
    writer.autocommit = True
    cursor = writer.cursor()
    for number in range(1, 10):  # the session keeps a plan that was made for one row
        cursor.execute("UPDATE {} SET item = 1 WHERE id = %s".format(table), (number,))

    cursor.execute("SET statement_timeout = '20s'")
    cursor.execute("UPDATE {} SET item = item + 1".format(table))

    assert len(captured.events()) == 40009


@specs
def test_what_is_written_through_a_parent_is_told_of_its_child(captured, spec):
    parent = captured.table("id int PRIMARY KEY, item text, secret text")
    captured.execute("CREATE TABLE {0}_child (note text) INHERITS ({0})".format(parent))
    captured.watch(parent + "_child", **spec)

    events = captured.write(
        "INSERT INTO {}_child VALUES (1, 'tea')".format(parent),
        "UPDATE {} SET item = 'milk'".format(parent),
        "DELETE FROM {}".format(parent),
    )

    assert operations([e for e in events if e.table != parent]) == ["insert", "update", "delete"]
