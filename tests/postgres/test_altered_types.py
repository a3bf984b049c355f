"""Values and keys are right when a column's type or the key is altered under a running hub."""

import datetime
from decimal import Decimal

import pytest

from pgevents import Hub
from pgevents.testing import wait_until

DAY = datetime.date(2024, 5, 6)
MOMENT = datetime.datetime(2024, 5, 6, 7, 8, 9)
LARGE = Decimal("12345678901234567890.123")

#: The column before, a value for it; how it is altered, a value for it then; what is told of both.
TYPES = {
    "date to timestamp": (
        "date",
        "'2024-05-06'",
        "ALTER v TYPE timestamp",
        "'2024-05-06 07:08:09'",
        DAY,
        MOMENT,
    ),
    "timestamp to date": (
        "timestamp",
        "'2024-05-06 07:08:09'",
        "ALTER v TYPE date",
        "'2024-05-06'",
        MOMENT,
        DAY,
    ),
    "float to numeric": ("float8", "1.5", "ALTER v TYPE numeric", str(LARGE), 1.5, LARGE),
    "numeric to float": ("numeric", str(LARGE), "ALTER v TYPE float8", "1.5", LARGE, 1.5),
    "dropped and added": ("bytea", "'abc'", "DROP v, ADD v date", "'2024-05-06'", b"abc", DAY),
    "added": ("int", "1", "ADD w int, DROP v, ADD v numeric", "0.1", 1, Decimal("0.1")),
}


@pytest.mark.parametrize("of, former, alter, value, before, after", TYPES.values(), ids=TYPES)
def test_each_row_has_the_types_of_its_time(captured, of, former, alter, value, before, after):
    table = captured.table("id serial PRIMARY KEY, v " + of)
    insert = "INSERT INTO {} (v) VALUES ({})"

    (first,) = captured.write(insert.format(table, former))
    captured.execute("ALTER TABLE {} {}".format(table, alter))
    (second,) = captured.write(insert.format(table, value))

    told = [first.new["v"], second.new["v"]]
    assert told == [before, after]
    assert list(map(type, told)) == [type(before), type(after)]


def test_one_page_has_rows_from_before_and_from_after_an_alteration(postgres, registry, heard):
    postgres.execute("CREATE TABLE t (id serial PRIMARY KEY, v date)")
    registry.listen("t", "after_insert", heard)
    hub = Hub(postgres.url, registry)
    insert = "INSERT INTO t (v) VALUES ('2024-05-06 07:08:09')"
    hub.poll(0)

    postgres.execute(insert)
    postgres.execute("ALTER TABLE t ALTER v TYPE timestamp")
    postgres.execute("ALTER TABLE t DROP CONSTRAINT t_pkey, ADD PRIMARY KEY (v, id)")
    postgres.execute(insert)
    hub.poll(5)
    hub.stop()

    before, after = heard.rest()
    assert (before.key, before.new["v"]) == (1, DAY)
    assert (after.key, after.new["v"]) == ((MOMENT, 2), MOMENT)


def test_a_group_reads_rows_from_before_it_was_started_by_the_types_of_now(
    postgres, registry, heard
):
    postgres.execute("CREATE TABLE t (id serial PRIMARY KEY, v text, w bytea, x int, y float8)")
    registry.listen("t", "after_insert", heard, group="g")
    with Hub(postgres.url, registry) as hub:
        hub.group("g").pause()
    postgres.execute("INSERT INTO t (v, w, x, y) VALUES ('no date', 'abc', 7, 1.5)")
    postgres.execute(
        "ALTER TABLE t DROP v, DROP w, DROP x, DROP y,"
        " ADD v date, ADD w uuid, ADD x bytea, ADD y numeric"
    )

    with Hub(postgres.url, registry) as hub:
        hub.group("g").resume()
        event = heard.next()
        wait_until(lambda: hub.group("g").lag()[0] == 0)
        letters = hub.group("g").dead_letters()

    assert event.new == {"id": 1, "v": "no date", "w": "\\x616263", "x": 7, "y": Decimal("1.5")}
    assert (event.key, letters) == (1, [])


def test_a_new_key_is_the_events_key_at_once(captured):
    table = captured.table("id int PRIMARY KEY, code text NOT NULL")
    insert = "INSERT INTO {} VALUES ({}, '{}')"

    events = captured.write(insert.format(table, 1, "a"))
    for alter, number in [
        ("DROP CONSTRAINT {0}_pkey, ADD PRIMARY KEY (code)", 2),
        ("DROP CONSTRAINT {0}_pkey, ADD PRIMARY KEY (code, id)", 3),
        ("DROP CONSTRAINT {0}_pkey", 4),
    ]:
        captured.execute("ALTER TABLE {0} ".format(table) + alter.format(table))
        events += captured.write(insert.format(table, number, "b" * number))

    assert [event.key for event in events] == [1, "bb", ("bbb", 3), None]
