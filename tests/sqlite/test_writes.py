"""On SQLite, every write succeeds, and its event says exactly what was written."""

import math
import random
import struct

import pytest

NAMES = [
    "Users",
    "order",
    "group",
    "it's",
    "a space",
    'a "quote"',
    "100%",
    "%s",
    "a.dot",
    "camelCase",
    "new",
    "old",
    "seq",
    "topic",
    "NEW",
    "log",
    "ünï",
    "x" * 200,
    "[bracket]",
    "a;b",
    "-- c",
    "?",
]


KINDS = ["blob", "text"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        "",
        b"",
        "tea",
        b"\x00\xff",
        0,
        -(2**63),
        2**63 - 1,
        True,
        1.5,
        0.1,
        1e300,
        5e-324,
        2.0**63,
        math.inf,
        -math.inf,
        "a\0b",
        "\0",
        "tea\u2028\U0001f375",
        "t",
        "r1",
        "x00",
        "o7",
        "'\"\\\n\x01\x7f",
        1.0,
        "{}",
        "null",
    ],
    ids=repr,
)
def test_a_value_arrives_as_it_was_written(sqlite, told, value):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")

    (event,) = told("t", ("INSERT INTO t (v) VALUES (?)", (value,)))

    assert event.new["v"] == value
    assert type(event.new["v"]) is (int if value is True else type(value))


def test_nan_is_null_as_sqlite_has_it(sqlite, told):
    sqlite.execute("CREATE TABLE t (v)")

    (event,) = told("t", ("INSERT INTO t VALUES (?)", (math.nan,)))

    assert event.new == {"v": None}


def test_minus_zero_equals_what_arrives(sqlite, told):
    sqlite.execute("CREATE TABLE t (v, r REAL)")

    (event,) = told("t", ("INSERT INTO t VALUES (?, ?)", (-0.0, -0.0)))

    assert event.new == {"v": 0.0, "r": 0.0}


def test_text_that_is_no_utf8_arrives(sqlite, told):
    sqlite.execute("CREATE TABLE t (v)")

    (event,) = told("t", ("INSERT INTO t VALUES (CAST(? AS TEXT))", (b"\xff\xfea\xc0\x80",)))

    assert event.new["v"].encode("utf-8", "surrogateescape") == b"\xff\xfea\xc0\x80"


@pytest.mark.parametrize("value", [b"\xff" * 50_000_000, "\u00e9" * 25_000_000], ids=KINDS)
def test_fifty_megabytes_arrive(sqlite, told, value):
    sqlite.execute("CREATE TABLE t (v)")

    events = told("t", ("INSERT INTO t VALUES (?)", (value,)), "DELETE FROM t")

    assert [event.operation for event in events] == ["insert", "delete"]
    assert events[0].new["v"] == value


@pytest.mark.parametrize("value", [bytes(100_000_001), "x" * 100_000_001], ids=KINDS)
def test_what_is_too_large_for_the_log_is_left_out_of_it(sqlite, told, value):
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, v)")

    (event,) = told("t", ("INSERT INTO t VALUES (1, ?)", (value,)))

    assert event.new == {"id": 1, "v": "(left out of the log: 100000001 bytes)"}


@pytest.mark.parametrize(
    "values",
    [
        ["zeroblob(90000000)"] * 6,
        ["CAST(zeroblob(81000000) AS TEXT)"],  # length() says 0
    ],
)
def test_a_row_that_is_too_large_to_be_told_is_written(sqlite, told, values):
    columns = "abcdef"[: len(values)]
    sqlite.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, more, {})".format(", ".join(columns)))

    events = told(
        "t",
        "INSERT INTO t VALUES (1, 1, {})".format(", ".join(values)),
        "UPDATE t SET more = 2",
    )

    assert [(event.key, event.new["more"]) for event in events] == [(1, 1), (1, 2)]


def test_a_change_of_case_is_told_whatever_the_collation(sqlite, told):
    sqlite.execute("CREATE TABLE t (a COLLATE NOCASE)")

    events = told("t", "INSERT INTO t VALUES ('a')", "UPDATE t SET a = 'A'")

    assert [event.new["a"] for event in events] == ["a", "A"]


def test_every_float_arrives_to_the_last_bit(sqlite, told):
    sqlite.execute("CREATE TABLE t (v REAL)")
    dice = random.Random(1)
    bits = [dice.getrandbits(64).to_bytes(8, "little") for _ in range(20_000)]
    values = [struct.unpack("<d", eight)[0] for eight in bits]
    values += [dice.random() * 10 ** dice.randint(-20, 20) for _ in range(5_000)]
    values += [dice.getrandbits(52) * 5e-324 for _ in range(5_000)]
    values += [1.7976931348623157e308, 2.2250738585072014e-308, 1e90, 1e-70, 1e200, 1e-180]
    values = [value for value in values if value == value]

    events = told("t", *[("INSERT INTO t VALUES (?)", (value,)) for value in values])

    assert [event.new["v"] for event in events] == values


@pytest.mark.parametrize("name", NAMES)
def test_any_name_will_do(sqlite, told, name):
    quoted = '"{}"'.format(name.replace('"', '""'))
    sqlite.execute("CREATE TABLE {0} ({0} PRIMARY KEY, v)".format(quoted))

    events = told(
        name,
        "INSERT INTO {} VALUES (1, 1)".format(quoted),
        "UPDATE {} SET v = 2".format(quoted),
        "DELETE FROM {}".format(quoted),
    )

    assert [event.key for event in events] == [1, 1, 1]
    assert [event.table for event in events] == [name] * 3
    assert events[1].old == {name: 1, "v": 1}
    assert events[1].new == {name: 1, "v": 2}


@pytest.mark.parametrize("count", [127, 128, 500, 1100])
def test_a_wide_table_arrives(sqlite, told, count):
    sqlite.execute("CREATE TABLE t ({})".format(", ".join("c{}".format(n) for n in range(count))))

    events = told(
        "t",
        "INSERT INTO t VALUES ({})".format(", ".join(map(str, range(count)))),
        "UPDATE t SET c{} = 'last'".format(count - 1),
    )

    assert events[0].new == {"c{}".format(n): n for n in range(count)}
    assert events[1].changed == ("c{}".format(count - 1),)
