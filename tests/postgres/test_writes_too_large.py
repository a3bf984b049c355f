"""A row that cannot be told whole is told all the same: the write goes on."""

import pytest

from pgevents import Hub, Registry
from pgevents.testing import Recorder

from ..servers import wanted_majors
from .test_writes import KINDS, make

#: On one server of a run, as what is this large takes its time; one after the other, as it takes
#: gigabytes.
pytestmark = [
    pytest.mark.parametrize("shared", wanted_majors()[-1:], indirect=True, scope="module"),
    pytest.mark.xdist_group("gigabytes"),
]

kinds = pytest.mark.parametrize("kind", KINDS)


def told(events):
    return [(event.operation, event.old, event.new) for event in events]


@kinds
def test_a_row_that_is_too_large_for_the_log_is_told_by_its_key(captured, kind):
    table = make(captured, "id int PRIMARY KEY, a bytea", kind)
    # As JSON each byte is two digits; the log takes 200 MB of a row.
    large = "convert_to(repeat('x', 101000000), 'UTF8')"

    events = captured.write(
        "INSERT INTO {} VALUES (1, {}), (2, 'tea')".format(table, large),
        "UPDATE {} SET a = 'milk' WHERE id = 1".format(table),
    )

    assert sorted(told(events[:2]), key=str) == [
        ("insert", None, {"id": 1}),
        ("insert", None, {"id": 2, "a": b"tea"}),
    ]
    assert told(events[2:]) == [("update", {"id": 1}, {"id": 1, "a": b"milk"})]


def test_what_is_too_large_is_told_where_there_is_no_key_and_no_change(captured):
    table = captured.table("a bytea")

    events = captured.write(
        "INSERT INTO {} VALUES (convert_to(repeat('x', 101000000), 'UTF8'))".format(table),
        "UPDATE {} SET a = a".format(table),
    )

    assert told(events) == [("insert", None, {}), ("update", {}, {})]


def test_a_huge_context_beside_a_large_row_is_cut_and_the_write_succeeds(captured):
    """Tried with 950 MB beside 189 MB, too, which takes 6.5 GB: a row of the log ends at 1 GB."""
    table = captured.table("id int PRIMARY KEY, a text")
    context = "set_config('pgevents.context', repeat('x', 20000000), true)"

    events = captured.write_together(
        "DO $$ BEGIN PERFORM {}; END $$".format(context),
        "INSERT INTO {} VALUES (1, repeat('y', 4000000))".format(table),
        "UPDATE {} SET a = repeat('z', 4000000)".format(table),
        "DELETE FROM {}".format(table),
        "TRUNCATE {}".format(table),
    )

    assert [event.operation for event in events] == ["insert", "update", "delete", "truncate"]
    assert {event.context for event in events} == {"x" * 16384 + "... (cut)"}
    assert events[0].new["a"] == "y" * 4000000 and events[2].old["a"] == "z" * 4000000


@pytest.mark.slow
def test_a_small_array_that_is_a_gigabyte_of_json_is_told_as_text(captured):
    names = ["{}_{}".format("c" * 50, n) for n in range(200)]
    captured.execute("CREATE TYPE wide AS ({})".format(", ".join(n + " int" for n in names)))
    table = captured.table("id int PRIMARY KEY, a wide[]")

    captured.write_together(
        "SET pgevents.capture = 'off'",
        "INSERT INTO {} SELECT 1, array_agg(ROW({})::wide) FROM generate_series(1, 120000)".format(
            table, ", ".join(["NULL"] * len(names))
        ),
    )

    (event,) = captured.write("UPDATE {} SET id = 2".format(table))

    assert (event.operation, event.new["id"]) == ("update", 2)


@kinds
def test_a_row_of_a_megabyte_is_told_whole_and_compared(captured, kind):
    table = make(captured, "id int, a text", kind)

    events = captured.write(
        "INSERT INTO {} SELECT i, repeat('x', i * 1000000) FROM generate_series(0, 2) i".format(
            table
        ),
        "UPDATE {} SET a = a".format(table),
        "UPDATE {} SET a = a || 'y'".format(table),
        "DELETE FROM {}".format(table),
    )

    def sizes(rows):
        return sorted(len(row["a"]) for row in rows)

    assert [event.operation for event in events] == ["insert"] * 3 + ["update"] * 3 + ["delete"] * 3
    assert sizes(event.new for event in events[:3]) == [0, 1000000, 2000000]
    assert sizes(event.new for event in events[3:6]) == [1, 1000001, 2000001]
    assert sizes(event.old for event in events[3:6]) == [0, 1000000, 2000000]
    assert sizes(event.old for event in events[6:]) == [1, 1000001, 2000001]


def test_a_backfill_tells_such_rows_the_same_way(captured):
    captured.execute("CREATE TYPE shape AS ENUM ('line', 'curve')")
    table = captured.table("id int PRIMARY KEY, a bytea, s shape")
    rows = "(1, convert_to(repeat('x', 101000000), 'UTF8'), 'line'), (2, 'tea', 'curve')"
    captured.execute("INSERT INTO {} VALUES {}".format(table, rows))
    told_by_triggers = {event.key: event.new for event in captured.events()}
    heard = Recorder()
    registry = Registry()
    registry.listen(table, "after_insert", heard, group=table)
    hub = Hub(captured.database.url, registry)
    hub.group(table, start="backfill")

    with hub:
        told_by_backfill = {event.key: event.new for event in heard.take(2)}

    assert (
        told_by_backfill
        == told_by_triggers
        == {1: {"id": 1}, 2: {"id": 2, "a": b"tea", "s": "curve"}}
    )
