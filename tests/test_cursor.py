"""A cursor moves as a table is read, and is stored as release 0.1 stored it. No database."""

import pytest

from pgevents.postgres.cursor import NOTHING, Cursor, all_fresh, any_fresh, first_fresh, page_of
from pgevents.postgres.snapshot import Snapshot

SINCE, NOW = Snapshot.parse("7:9:7"), Snapshot.parse("12:12:")

STORED = {
    '{"since": "7:9:7", "upto": null, "seq": 4}': Cursor(SINCE, None, 4),
    '{"since": "7:9:7", "upto": "12:12:", "seq": 4}': Cursor(SINCE, NOW, 4),
    '{"since": "7:9:7", "upto": null, "seq": 4, "backfill": 10}': Cursor(
        SINCE, None, 4, backfill=10
    ),
}


@pytest.mark.parametrize("text, cursor", STORED.items(), ids=["plain", "in pages", "backfill"])
def test_a_cursor_is_stored_as_by_earlier_releases_and_read_back(text, cursor):
    assert cursor.text == text
    assert Cursor.parse(text) == cursor


def test_what_only_a_reader_knows_is_not_stored():
    cursor = Cursor(SINCE, NOW, 4, newest=8, newest_read=11)

    assert Cursor.parse(cursor.text) == Cursor(SINCE, NOW, 4)


def test_a_backlog_is_read_in_pages_and_then_counts_as_read():
    cursor = Cursor(SINCE, None, 40, newest=8)

    paged = cursor.in_pages(NOW, first=21)
    assert (paged.since, paged.upto, paged.position) == (SINCE, NOW, 20)
    assert (paged.newest, paged.newest_read) == (8, 8)
    assert paged.all_read == paged.read_in_order == NOW

    last = paged.behind(35)._replace(newest_read=11)
    assert last.behind_pages() == Cursor(NOW, None, 35, newest=11, newest_read=11)


def test_the_position_behind_all_is_the_highest_that_was_read():
    cursor = Cursor(SINCE, None, 40)

    # A transaction that ends late has the lower number.
    assert cursor.behind_all(NOW, 21) == cursor.behind_all(NOW) == Cursor(NOW, None, 40)
    assert cursor.behind_all(NOW, 41).position == 41


def test_a_backfill_is_read_before_all_else_and_nothing_that_ended_meanwhile_is_lost():
    cursor = Cursor(SINCE, None, 4, backfill=10)

    assert cursor.read_in_order.sees(10)
    assert cursor.behind(8).backfill == 10
    behind = cursor.behind(8).behind_backfill()
    assert behind.backfill is None
    assert [xid for xid in range(12) if behind.since.sees(xid)] == [*range(7), 8, 10]


def test_a_cursor_that_is_not_in_pages_has_read_nothing_in_order():
    assert Cursor(SINCE, None, 4).read_in_order == NOTHING
    assert not any(NOTHING.sees(xid) for xid in range(1, 20))


def test_the_sql_is_for_any_table_and_finds_what_is_new_without_a_lower_bound_on_the_number():
    condition = "category = %(category)s"
    fresh = all_fresh("events", "seq, data", condition, "10")

    for sql in (fresh, any_fresh("events", condition), first_fresh("events")):
        assert sql.count("FROM events WHERE xid >= %(xmax)s::xid8") == 1
        assert sql.count("FROM events WHERE xid = ANY (%(xip)s::xid8[])") == 1
        assert "seq >" not in sql
    assert page_of(condition, "$1", "$2", "$3").startswith(f"seq > $1 AND {condition}")


def test_the_values_are_those_that_the_sql_names():
    values = Cursor(SINCE, NOW, 4).values

    assert values.pop("xip") == ["7"]
    assert values == {"xmax": "9", "since": "7:9:7", "upto": "12:12:", "position": 4}
    for sql in (all_fresh("events", "seq", "true", "10"), first_fresh("events"), page_of("true")):
        assert sql % {"xip": None, **values}
