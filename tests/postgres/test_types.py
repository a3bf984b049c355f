"""Values come back exactly as psycopg2 itself would give them; where it cannot, as the log's text.

uuid is a UUID and bytea bytes, whether or not the application registered that with psycopg2.
"""

import datetime
import decimal
import enum
import json
import math
import uuid

import psycopg2
import psycopg2.extras
import pytest
import sqlalchemy
from sqlalchemy.dialects.postgresql import ARRAY

from pgevents import Event, Hub

SAME = {
    "smallint": ["-32768"],
    "bigint": ["9223372036854775807", "-9223372036854775808"],
    "boolean": ["true", "false"],
    "text": ["", 'it\'s "quoted" \\ back', "\u2028 ü 🐘", "a\tb\nc\x01\x1f", "null"],
    "varchar(9)": ["tea"],
    "char(5)": ["ab"],
    '"char"': ["x"],
    "name": ["tea"],
    "oid": ["4294967295"],
    "regclass": ["pg_class"],
    "numeric": [
        "12345678901234567890.10",
        "-0.000000000000000000000000000001",
        "1e30",
        "0.00",
        "NaN",
        "Infinity",
        "-Infinity",
        "1" + "0" * 5000,
        "1e-400",
    ],
    "numeric(10,2)": ["1.5", "100"],
    "real": ["0.1", "1e-38", "NaN", "-Infinity", "16777217"],
    "double precision": [
        "0.1",
        "0.30000000000000004",
        "1e308",
        "5e-324",
        "NaN",
        "Infinity",
        "-Infinity",
        "123456789012345678",
    ],
    "money": ["12.50", "-1234567.89"],
    "json": [
        '{"a": [1.50, 1e308, "\\u0000", null, "\\ud83d\\ude00"], "a": 2}',
        '"x"',
        "null",
        "12345678901234567890.10",
        '"\\ud800"',
        "[]",
    ],
    "jsonb": ['{"a": [1.50, {"b": 12345678901234567890.10}]}', "null", "1", '"\\u00e9"'],
    "date": ["2024-02-29", "0001-01-01", "9999-12-31", "infinity", "-infinity"],
    "time": ["00:00", "23:59:59.999999", "12:30:00.5"],
    "timetz": ["12:30:00.5+02", "00:00-05:30", "12:00+01:02:03"],
    "timestamp": [
        "2024-02-29 12:30:00.5",
        "0001-01-01 00:00",
        "9999-12-31 23:59:59.999999",
        "infinity",
        "-infinity",
    ],
    "timestamptz": [
        "2024-02-29 12:30:00.5+02",
        "9999-12-31 23:59:59.999999+00",
        "1890-01-01 00:00:00+00",
        "infinity",
        "-infinity",
    ],
    "interval": [
        "1 day 02:03:04.5",
        "-1 day",
        "1 year 2 mons",
        "-00:00:01.5",
        "0",
        "1 mon -1 day +01:00:00",
    ],
    "bytea": ["\\x", "\\x0001ff", "\\xdeadbeef"],
    "inet": ["10.0.0.1", "10.0.0.0/8", "::1"],
    "cidr": ["10.0.0.0/8"],
    "macaddr": ["08:00:2b:01:02:03"],
    "point": ["(1,2.5)"],
    "box": ["(1,1),(0,0)"],
    "bit(3)": ["101"],
    "varbit": ["10101"],
    "tsvector": ["'a':1A 'cat':2"],
    "tsquery": ["'a' & 'b'"],
    "xml": ['<a b="c">d</a>'],
    "pg_lsn": ["16/B374D848"],
    "jsonpath": ["$.a[*]"],
    "int4range": ["[1,5)", "empty", "(,)", "[1,)", "(,5)"],
    "int8range": ["[1,9223372036854775807)"],
    "numrange": ["(1.50,2.5]", "[,2]"],
    "daterange": ["[2024-01-01,2024-02-01)", "(,2024-01-01)", "[2024-01-01,infinity)"],
    "tsrange": ["[2024-01-01 10:00,2024-01-01 11:00:00.5)"],
    "tstzrange": ["[2024-01-01 10:00+00,2024-01-01 11:00+00]", "empty"],
    "int4multirange": ["{[1,3),[5,7)}"],
    "int[]": ["{1,NULL,3}", "{}", "{{1,2},{3,4}}"],
    "text[]": ['{a,NULL,"NULL","a,b","q\\"x","{}"}', "{{a,b},{c,NULL}}"],
    "numeric[]": ["{1.10,NaN,NULL,12345678901234567890.10}"],
    "float8[]": ["{0.1,NaN,Infinity,NULL}"],
    "boolean[]": ["{t,f,NULL}"],
    "date[]": ["{2024-01-01,NULL}"],
    "timestamp[]": ["{2024-01-01 10:00}"],
    "timestamptz[]": ["{2024-01-01 10:00+00,NULL}"],
    "interval[]": ["{1 day,02:00}"],
    "bytea[]": ['{"\\\\x00ff",NULL}'],
    "uuid[]": ["{11111111-1111-1111-1111-111111111111,NULL}"],
    "jsonb[]": ['{"{\\"a\\": 1.5}",NULL}'],
    "json[]": ['{"{\\"a\\": 1.5}",NULL}'],
    "int4range[]": ['{"[1,5)",NULL}'],
    "uuid": ["11111111-1111-1111-1111-111111111111"],
    "stars": ["1", "5"],
    "price": ["1.50"],
    "prices": ["{1.50,NULL}"],
    "mood": ["happy", "so so"],
}
CASES = [(kind, value) for kind, values in SAME.items() for value in values]


@pytest.fixture(scope="module")
def types(shared):
    """The module's log, with some types of the application's own."""
    shared.execute("CREATE DOMAIN stars AS int CHECK (value BETWEEN 1 AND 5)")
    shared.execute("CREATE DOMAIN price AS numeric(9,2)")
    shared.execute("CREATE DOMAIN prices AS numeric[]")
    shared.execute("CREATE TYPE mood AS ENUM ('happy', 'so so')")
    shared.execute("CREATE TYPE thing AS (id int, price numeric, at date, tags text[])")
    shared.execute("CREATE TYPE nested AS (t thing, ok bool, doc json, oks bool[], r int4range)")
    shared.execute("CREATE TYPE docs AS (a json, b jsonb)")
    shared.execute("CREATE TYPE nothing AS ()")
    shared.execute("CREATE DOMAIN rating AS stars")
    shared.execute("CREATE DOMAIN moods AS mood[]")
    shared.execute("CREATE TYPE floatrange AS RANGE (subtype = float8)")
    return shared


def plain(value):
    """What can be compared: with types, NaN and -0, and bytes instead of their view."""
    if isinstance(value, (bytes, memoryview)):
        return bytes(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {name: plain(item) for name, item in value.items()}
    if isinstance(value, float) or isinstance(value, decimal.Decimal):
        return repr(value)
    if isinstance(value, datetime.time) and value.tzinfo is not None:
        return value, value.utcoffset()
    return type(value), value


def read(captured, sql):
    connection = captured.connect()
    psycopg2.extras.register_uuid(conn_or_curs=connection)
    cursor = connection.cursor()
    cursor.execute("SET timezone = 'UTC'")
    cursor.execute(sql)
    (row,) = cursor.fetchall()
    connection.close()
    return row[0]


@pytest.mark.parametrize("kind", SAME)
def test_a_value_is_what_psycopg2_gives(captured, types, kind):
    table = captured.table("id int PRIMARY KEY, v {}".format(kind))

    for number, value in enumerate(SAME[kind]):
        try:
            captured.execute("INSERT INTO {} VALUES (%s, %s)".format(table), number, value)
        except psycopg2.errors.FeatureNotSupported:
            pytest.skip("the server was built without {}".format(kind))
    events = captured.events()

    for number, event in enumerate(events):
        wanted = read(captured, "SELECT v FROM {} WHERE id = {}".format(table, number))
        assert plain(event.new["v"]) == plain(wanted), SAME[kind][number]
    assert len(events) == len(SAME[kind])
    assert captured.write("INSERT INTO {} VALUES (-1, NULL)".format(table))[0].new["v"] is None


LONG = "1" + "0" * 5000
E400 = [decimal.Decimal("1e400"), decimal.Decimal("-1e400")]
#: What psycopg2 refuses, or makes infinite, and what the event says.
LONG_NUMBERS = [
    ("jsonb", LONG, decimal.Decimal(LONG)),
    ("jsonb", "1e5000", decimal.Decimal(LONG)),
    ("jsonb", "-1e400", -(10**400)),
    ("jsonb", '{"a": [%s, 7, 1.5, -0.0]}' % LONG, {"a": [decimal.Decimal(LONG), 7, 1.5, 0.0]}),
    ("json", LONG, decimal.Decimal(LONG)),
    ("json", '{"a": [1e400, -1e400, 7, 1.5]}', {"a": [*map(decimal.Decimal, E400), 7, 1.5]}),
    ("json", "[1e-400]", [0.0]),
    ("json", "[1e99999999999999999999]", ["1e99999999999999999999"]),
    ("json[]", '{"1e400","{\\"a\\": 1e400}"}', [E400[0], {"a": E400[0]}]),
    ("json[]", "{%s}" % LONG, [decimal.Decimal(LONG)]),
    ("jsonb[]", "{%s,7}" % LONG, [decimal.Decimal(LONG), 7]),
    ("docs", '("1e400",%s)' % LONG, {"a": E400[0], "b": decimal.Decimal(LONG)}),
    ("numeric", LONG, decimal.Decimal(LONG)),
    ("numeric", LONG + ".5", decimal.Decimal(LONG + ".5")),
    ("numeric[]", "{1e5000,1}", [decimal.Decimal(LONG), decimal.Decimal(1)]),
]


@pytest.mark.parametrize(
    "kind, value, wanted", LONG_NUMBERS, ids=[f"{k} {v[:30]}" for k, v, _ in LONG_NUMBERS]
)
def test_a_number_that_python_makes_no_int_or_float_of_is_exact(
    captured, types, kind, value, wanted
):
    table = captured.table("id int PRIMARY KEY, n bigint, v {}".format(kind))

    (event,) = captured.write("INSERT INTO {} VALUES (1, 2, '{}')".format(table, value))
    copy = Event.from_json(event.to_json())

    assert event.new["v"] == wanted
    assert (plain(event.new["id"]), plain(event.new["n"])) == ((int, 1), (int, 2))
    assert (copy.new, event.key, repr(event)[:6]) == (event.new, 1, "<Event")


def test_numbers_of_a_table_that_is_gone_are_exact(captured):
    table = captured.table("id int PRIMARY KEY, a numeric, b json, c json")

    event = captured.write_together(
        "INSERT INTO {0} VALUES (1, {1}, '[1e400, 1.5]', '{1}')".format(table, LONG),
        "DROP TABLE {}".format(table),
    )[0]

    long = decimal.Decimal(LONG)
    assert event.new == {"id": 1, "a": long, "b": [E400[0], 1.5], "c": long}


def test_a_number_in_a_context_is_never_infinite(captured):
    table = captured.table("id int PRIMARY KEY")

    (event,) = captured.write_together(
        """SET LOCAL pgevents.context = '{"a": 1e400}'""", "INSERT INTO {} VALUES (1)".format(table)
    )

    assert event.context == {"a": E400[0]}


AS_TEXT = [
    ("date", "10000-01-01", "10000-01-01"),
    ("date", "0044-03-15 BC", "0044-03-15 BC"),
    ("timestamp", "10000-01-01 00:00", "10000-01-01T00:00:00"),
    ("timestamp", "0044-03-15 12:00 BC", "0044-03-15T12:00:00 BC"),
    ("timestamptz", "294276-12-31 00:00+00", "294276-12-31T00:00:00+00:00"),
    ("daterange", "[2024-01-01,10000-01-01)", "[2024-01-01,10000-01-01)"),
    ("date[]", "{10000-01-01}", ["10000-01-01"]),
    ("interval", "178000000 years", "178000000 years"),
]


@pytest.mark.parametrize("kind, value, wanted", AS_TEXT)
def test_a_value_that_python_cannot_hold_is_the_logs_text(captured, kind, value, wanted):
    table = captured.table("id int, v {}, w numeric".format(kind))

    captured.execute("INSERT INTO {} VALUES (1, %s, 1.10)".format(table), value)
    (event,) = captured.events()

    assert event.new == {"id": 1, "v": wanted, "w": decimal.Decimal("1.10")}


STRUCTURED = [
    (
        "thing",
        '(1,1.10,2024-01-01,"{a,b}")',
        {
            "id": 1,
            "price": decimal.Decimal("1.10"),
            "at": datetime.date(2024, 1, 1),
            "tags": ["a", "b"],
        },
    ),
    (
        "nested",
        '("(7,,,)",t,"{""a"": 1.5}","{t,NULL}","[1,5)")',
        {
            "t": {"id": 7, "price": None, "at": None, "tags": None},
            "ok": True,
            "doc": {"a": 1.5},
            "oks": [True, None],
            "r": psycopg2.extras.NumericRange(1, 5),
        },
    ),
    ("nothing", "()", {}),
    ("mood[]", '{happy,"so so",NULL}', ["happy", "so so", None]),
    ("mood[]", '[0:1][3:4]={{happy,NULL},{"so so",happy}}', [["happy", None], ["so so", "happy"]]),
    ("moods", "{happy}", ["happy"]),
    ("rating", "5", 5),
    ("rating[]", "{5,NULL}", [5, None]),
    ("price[]", "{1.10}", [decimal.Decimal("1.10")]),
    ("int4range[]", '{"[1,5)"}', [psycopg2.extras.NumericRange(1, 5)]),
    ("floatrange", "[1.5,2.5)", "[1.5,2.5)"),
]


@pytest.mark.parametrize("kind, value, wanted", STRUCTURED, ids=range(len(STRUCTURED)))
def test_values_that_psycopg2_leaves_as_text(captured, types, kind, value, wanted):
    table = captured.table("id int, v {}".format(kind))

    captured.execute("INSERT INTO {} VALUES (1, %s)".format(table), value)
    (event,) = captured.events()

    assert event.new["v"] == wanted


def test_whatever_stands_in_an_array_of_composite_values_comes_back(captured, types):
    table = captured.table("id int, v thing[]")
    texts = ["", "x \\ y", "a \"b\" 'c'", "{,}", "(;)", "NULL", "two\nlines", None]

    captured.execute(
        "INSERT INTO {} VALUES (1, ARRAY[ROW(1, NULL, NULL, %s)::thing, NULL])".format(table), texts
    )
    (event,) = captured.events()

    assert event.new["v"] == [{"id": 1, "price": None, "at": None, "tags": texts}, None]


def test_extensions_types_come_as_before(captured):
    """A dict of hstore, as 0.1 gave it; rows that 0.1 has written read the same."""
    try:
        captured.execute("CREATE EXTENSION hstore; CREATE EXTENSION citext")
    except psycopg2.Error:
        pytest.skip("the server was built without contrib")
    table = captured.table("id int, h hstore, hs hstore[], c citext, cs citext[]")
    pairs = {"a": 'x "y" \\ z', "b": None, "": ","}
    hstore = "hstore(%s::text[], %s::text[])"

    captured.execute(
        "INSERT INTO {} VALUES (1, {h}, ARRAY[{h}, NULL], 'Tea', '{{Tea,NULL}}')".format(
            table, h=hstore
        ),
        *[[*pairs], [*pairs.values()]] * 2,
    )
    captured.execute(
        "INSERT INTO pgevents.log (topic, operation, new) SELECT 'public.' || %s, 'insert', %s",
        table,
        json.dumps({"id": 1, "h": pairs, "hs": [pairs, None], "c": "Tea", "cs": ["Tea", None]}),
    )
    now, before = captured.events()

    assert (
        now.new
        == before.new
        == {"id": 1, "h": pairs, "hs": [pairs, None], "c": "Tea", "cs": ["Tea", None]}
    )


def test_an_array_of_enums_is_what_the_orm_gives(captured, types, registry, heard):
    class Mood(enum.Enum):
        happy = 1
        sad = 2

    table = captured.table("id int PRIMARY KEY, m mood, ms mood[], cs text[]")
    moods = sqlalchemy.Enum("happy", "so so", name="mood")
    declared = sqlalchemy.Table(
        table,
        sqlalchemy.MetaData(),
        sqlalchemy.Column("id", sqlalchemy.Integer),
        sqlalchemy.Column("m", moods),
        sqlalchemy.Column("ms", ARRAY(moods)),
        sqlalchemy.Column("cs", ARRAY(sqlalchemy.Enum(Mood, native_enum=False))),
    )
    registry.listen(declared, "after_insert", heard)
    with Hub(captured.database.url, registry):
        captured.execute(
            "INSERT INTO {} VALUES (1, 'so so', %s, '{{sad}}')".format(table),
            '{happy,"so so",NULL}',
        )
        new = heard.next().new

    assert new["ms"] == ["happy", "so so", None]
    with captured.database.engine().connect() as connection:
        try:
            wanted = connection.execute(sqlalchemy.select(declared)).first()
        except LookupError:
            pytest.skip("this SQLAlchemy cannot read an array of labels in quotes")
    assert tuple(new.values()) == tuple(wanted)


parted = pytest.mark.parametrize("partitions", ["", "PARTITION BY RANGE (n)"], ids=["", "parted"])
excluded = pytest.mark.parametrize("spec", [{}, {"exclude": ["item"]}], ids=["all", "excluded"])


def write_generated(captured, stored, partitions, spec):
    table = captured.table(
        "id int GENERATED ALWAYS AS IDENTITY, n int, item text,"
        " twice int GENERATED ALWAYS AS (n * 2) {}".format(stored),
        partitions,
        **spec,
    )
    if partitions:
        captured.execute("CREATE TABLE {0}_all PARTITION OF {0} DEFAULT".format(table))
    return captured.write(
        "INSERT INTO {} (n) VALUES (1)".format(table),
        "UPDATE {} SET n = 2".format(table),
        "DELETE FROM {}".format(table),
    )


@parted
@excluded
def test_stored_generated_columns_and_identities_are_told(captured, partitions, spec):
    events = write_generated(captured, "STORED", partitions, spec)

    assert [event.new and event.new["id"] for event in events] == [1, 1, None]
    assert [event.new and event.new["twice"] for event in events] == [2, 4, None]
    assert [event.old and event.old["twice"] for event in events] == [None, 2, 4]
    assert events[1].changed == ("n", "twice")


@parted
@excluded
def test_virtual_generated_columns_are_none_since_triggers_do_not_see_them(
    captured, partitions, spec
):
    if captured.major < 18:
        pytest.skip("PostgreSQL 18 brought virtual columns")

    events = write_generated(captured, "VIRTUAL", partitions, spec)

    assert [event.operation for event in events] == ["insert", "update", "delete"]
    assert [(row["n"], row["twice"]) for row in (events[0].new, events[1].new, events[2].old)] == [
        (1, None),
        (2, None),
        (2, None),
    ]


def test_an_event_survives_its_own_json(captured):
    table = captured.table("id uuid PRIMARY KEY, a numeric, b timestamptz, c bytea, d jsonb")

    captured.execute(
        "INSERT INTO {} VALUES (%s, 1.10, 'infinity', '\\x00', '[1.5]')".format(table),
        str(uuid.UUID(int=1)),
    )
    (event,) = captured.events()

    assert type(event).from_json(event.to_json()).new == event.new
    assert json.loads(event.to_json())["table"] == table
    assert math.isclose(event.new["d"][0], 1.5)


@pytest.mark.parametrize("workers", [1, 2])
def test_a_document_too_deep_for_python_disturbs_no_other_event(postgres, registry, heard, workers):
    postgres.execute("CREATE TABLE orders (id int PRIMARY KEY, document json)")
    registry.listen("orders", "after_change", heard)

    with Hub(postgres.url, registry, workers=workers):
        postgres.execute("INSERT INTO orders VALUES (1, %s)", "[" * 3000 + "]" * 3000)
        postgres.execute("UPDATE orders SET document = NULL")
        postgres.execute("INSERT INTO orders VALUES (2)")
        events = heard.take(3)

    # Several workers keep the order of each row, not that of all.
    assert [event.operation for event in events if event.key == 1] == ["insert", "update"]
    assert [event.operation for event in events if event.key == 2] == ["insert"]


def test_ranges_in_an_array_go_to_json_as_the_log_has_them(postgres, registry, heard):
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, spans int4range[], span int4range)")
    registry.listen("t", "after_insert", heard)

    with Hub(postgres.url, registry):
        postgres.execute("INSERT INTO t VALUES (1, '{\"[1,5)\",NULL}', '[2,3)')")
        event = heard.next()

    copy = Event.from_json(event.to_json())
    assert copy.new == {"id": 1, "spans": ["[1,5)", None], "span": "[2,3)"}


def depth(value):
    """How often lists are nested, without recursion."""
    found = 0
    while isinstance(value, list):
        found, value = found + 1, value[0] if value else None
    return found


def test_json_that_is_too_deep_for_python_is_its_text(postgres, registry, heard):
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, data json, price numeric)")
    registry.listen("t", "after_change", heard)
    deep = "[" * 5000 + "]" * 5000

    with Hub(postgres.url, registry) as hub:
        postgres.execute("INSERT INTO t VALUES (1, %s, 1.10)", deep)
        postgres.execute("UPDATE t SET price = 2")
        inserted, updated = heard.take(2)
        assert hub.status()["failed"] == 0

    # How deep is too deep depends on Python's version.
    assert inserted.new["data"] == deep or depth(inserted.new["data"]) == 5000
    assert (inserted.key, str(inserted.new["price"])) == (1, "1.10")
    assert updated.changed == ("price",)
