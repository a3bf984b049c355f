"""Writes to partitioned tables arrive, through the root and into the partitions."""

import pytest

from .test_writes import operations, specs
from .test_writes_arrive import told


@pytest.fixture
def parted(captured):
    """Make a partitioned table with the partitions <table>_low and <table>_high."""

    def make(**spec):
        table = captured.table(
            "id int PRIMARY KEY, item text, secret text", "PARTITION BY RANGE (id)", **spec
        )
        for name, low, high in [("low", 0, 10), ("high", 10, 20)]:
            captured.execute(
                "CREATE TABLE {0}_{1} PARTITION OF {0} FOR VALUES"
                " FROM ({2}) TO ({3})".format(table, name, low, high)
            )
        return table

    return make


@specs
def test_writes_through_the_root_and_into_a_partition(captured, parted, spec):
    table = parted(**spec)

    events = captured.write(
        "INSERT INTO {} VALUES (1), (11)".format(table),
        "INSERT INTO {}_low VALUES (2)".format(table),
        "UPDATE {}_low SET item = 'x' WHERE id = 2".format(table),
        "DELETE FROM {}_high".format(table),
    )

    assert {event.table for event in events} == {table}
    assert [(e.operation, e.key) for e in events] == [
        ("insert", 1),
        ("insert", 11),
        ("insert", 2),
        ("update", 2),
        ("delete", 11),
    ]


@specs
def test_a_row_that_moves_is_deleted_and_inserted(captured, parted, spec):
    table = parted(**spec)
    captured.write("INSERT INTO {} VALUES (1, 'tea')".format(table))

    events = captured.write("UPDATE {} SET id = 11".format(table))

    assert told(events) == [("delete", 1, None), ("insert", None, 11)]


@specs
def test_a_partition_attached_later_with_other_columns_order(captured, parted, spec):
    table = parted(**spec)
    captured.execute(
        "CREATE TABLE {}_late (secret text, gone int, item text, id int NOT NULL)".format(table)
    )
    captured.execute("ALTER TABLE {}_late DROP gone".format(table))
    captured.execute(
        "ALTER TABLE {0} ATTACH PARTITION {0}_late FOR VALUES FROM (20) TO (30)".format(table)
    )

    events = captured.write(
        "INSERT INTO {} (id, item) VALUES (21, 'tea')".format(table),
        "UPDATE {} SET item = 'milk'".format(table),
        "DELETE FROM {}_late".format(table),
        "ALTER TABLE {0} DETACH PARTITION {0}_late".format(table),
        "INSERT INTO {}_late (id) VALUES (22)".format(table),
    )

    assert operations(events) == ["insert", "update", "delete"]
    assert [(e.key, e.new and e.new["item"]) for e in events] == [
        (21, "tea"),
        (21, "milk"),
        (21, None),
    ]


def test_a_partition_watched_by_itself(captured, parted):
    table = parted(include=["id"])
    captured.watch(table + "_low")

    events = captured.write("INSERT INTO {} VALUES (1, 'tea')".format(table))

    assert sorted(event.table for event in events) == [table, table + "_low"]


@specs
def test_a_watched_table_becomes_a_partition(captured, parted, spec):
    table = parted()
    late = captured.table("id int NOT NULL, item text, secret text", **spec)
    captured.execute(
        "ALTER TABLE {} ATTACH PARTITION {} FOR VALUES FROM (20) TO (30)".format(table, late)
    )

    events = captured.write(
        "INSERT INTO {} (id) VALUES (21)".format(table),
        "INSERT INTO {} (id) VALUES (22)".format(late),
    )

    assert [e.new["id"] for e in events if e.table == table] == [21, 22]


@pytest.mark.parametrize("target", ["{}", "{}_low"])
def test_truncate(captured, parted, target):
    table = parted()

    events = captured.write("TRUNCATE " + target.format(table))

    assert operations(events) == (["truncate"] if target == "{}" else [])


def test_subpartitions(captured):
    table = captured.table("id int, item text", "PARTITION BY RANGE (id)")
    captured.execute(
        "CREATE TABLE {0}_mid PARTITION OF {0} DEFAULT PARTITION BY LIST (item)".format(table)
    )
    captured.execute("CREATE TABLE {0}_leaf PARTITION OF {0}_mid DEFAULT".format(table))

    events = captured.write(
        "INSERT INTO {} VALUES (1, 'a')".format(table),
        "INSERT INTO {}_mid VALUES (2, 'a')".format(table),
        "UPDATE {}_leaf SET item = 'b'".format(table),
    )

    assert told(events) == [
        ("insert", None, 1),
        ("insert", None, 2),
        ("update", 1, 1),
        ("update", 2, 2),
    ]
