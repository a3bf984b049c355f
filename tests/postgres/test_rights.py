"""No code of anybody else runs with the rights of who installed."""

import pytest

from pgevents import Hub, Registry
from pgevents.testing import Recorder

from ..waiting import wait_for

KINDS = {"plain": "", "partitioned": "PARTITION BY RANGE (id)"}
kinds = pytest.mark.parametrize("kind", KINDS)
ISOLATIONS = ["read committed", "repeatable read", "serializable"]
isolations = pytest.mark.parametrize("isolation", ISOLATIONS)
SPECS = {"all": {}, "excluded": {"exclude": ["secret"]}, "keys_of_old": {"old": False}}
specs = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)

#: How a type that has a cast of its own gets into a table.
COLUMNS = ["evil", "evil[]", "evil_domain", "evil_domain[]", "evil_thing", "evil_thing[]"]
VALUES = ["a", "{a}", "a", "{a}", "(a,{a})", '{"(a,{a})"}']


@pytest.fixture(scope="module")
def evil(shared):
    """A type with casts that count their calls, which a rollback does not undo."""
    for statement in (
        "CREATE SEQUENCE calls",
        "CREATE TYPE evil AS ENUM ('a', 'b')",
        "CREATE DOMAIN evil_domain AS evil",
        "CREATE TYPE evil_thing AS (e evil, many evil[])",
        "CREATE FUNCTION ev(evil) RETURNS json LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('public.calls'); RETURN '1'; END $$",
        "CREATE FUNCTION ev_text(evil) RETURNS text LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('public.calls'); RETURN '1'; END $$",
        "CREATE CAST (evil AS json) WITH FUNCTION ev(evil) AS ASSIGNMENT",
        "CREATE CAST (evil AS text) WITH FUNCTION ev_text(evil) AS ASSIGNMENT",
    ):
        shared.execute(statement)
    return shared


def called(evil):
    return evil.execute("SELECT is_called FROM calls") == [(True,)]


@pytest.fixture
def tables(evil):
    """Make a table with such columns, captured."""

    def make(kind, spec={}):
        columns = ", ".join("c{} {}".format(n, column) for n, column in enumerate(COLUMNS))
        table = evil.table(
            "id int PRIMARY KEY, secret text, {}".format(columns), KINDS[kind], **spec
        )
        if kind == "partitioned":
            evil.execute("CREATE TABLE {0}_all PARTITION OF {0} DEFAULT".format(table))
        return table

    return make


def write_all(captured, table, isolation):
    connection = captured.connect()
    cursor = connection.cursor()
    values = ", ".join("'{}'".format(value) for value in VALUES)
    for statement in (
        "INSERT INTO {} VALUES (1, 'x', {})".format(table, values),
        "UPDATE {} SET c0 = 'b'".format(table),
        "UPDATE {} SET secret = repeat('y', 300000)".format(table),
        "UPDATE {} SET secret = 'z', id = 2".format(table),
        "DELETE FROM {}".format(table),
    ):
        cursor.execute("SET default_transaction_isolation = '{}'".format(isolation))
        connection.commit()
        cursor.execute(statement)
        connection.commit()
    return captured.events()


@kinds
@specs
@isolations
def test_no_cast_of_a_type_is_called(captured, evil, tables, kind, spec, isolation):
    table = tables(kind, spec)

    events = write_all(captured, table, isolation)

    assert not called(evil)
    assert [event.operation for event in events][0] == "insert"
    assert [event.operation for event in events][-1] == "delete"
    row = events[0].new
    assert [row["c{}".format(n)] for n in range(len(COLUMNS))] == [
        "a",
        ["a"],
        "a",
        ["a"],
        {"e": "a", "many": ["a"]},
        [{"e": "a", "many": ["a"]}],
    ]


def test_an_enum_is_trusted_if_the_functions_owner_has_it_and_it_has_no_cast(captured, evil):
    evil.database.server.execute("DROP ROLE IF EXISTS stranger; CREATE ROLE stranger")
    for statement in (
        "CREATE TYPE mood AS ENUM ('good')",
        "CREATE DOMAIN mood_domain AS mood",
        "CREATE TYPE strange AS ENUM ('good')",
        "ALTER TYPE strange OWNER TO stranger",
    ):
        evil.execute(statement)
    cursor = captured.connect().cursor()

    def trusted(kind):
        cursor.execute("SELECT pgevents.native(%s::regtype)", (kind,))
        return cursor.fetchone()[0]

    ours = ("int", "mood", "mood[]", "mood_domain", "mood_domain[]")
    assert [trusted(kind) for kind in ours] == [True] * 5
    others = ("strange", "strange[]", "evil", "evil_domain", "evil_thing")
    assert [trusted(kind) for kind in others] == [False] * 5
    cursor.execute("ROLLBACK; BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert not trusted("mood")
    evil.execute("DROP TYPE strange")
    evil.database.server.execute("DROP ROLE stranger")


@kinds
@isolations
def test_a_column_that_is_added_after_the_snapshot_is_not_cast(captured, evil, kind, isolation):
    table = evil.table("id int PRIMARY KEY, was int", KINDS[kind])
    if kind == "partitioned":
        evil.execute("CREATE TABLE {0}_all PARTITION OF {0} DEFAULT".format(table))
    connection = captured.connect()
    cursor = connection.cursor()
    cursor.execute("SET default_transaction_isolation = '{}'".format(isolation))
    connection.commit()
    cursor.execute("SELECT 1 FROM pg_class")

    evil.execute("ALTER TABLE {} DROP COLUMN was, ADD COLUMN was evil".format(table))
    cursor.execute("INSERT INTO {} VALUES (1, 'a'), (2, NULL)".format(table))
    cursor.execute("UPDATE {} SET was = 'b'".format(table))
    cursor.execute("DELETE FROM {}".format(table))
    connection.commit()

    events = captured.events()
    assert not called(evil)
    assert [event.new and event.new["was"] for event in events] == ["a", None, "b", "b", None, None]


def test_a_backfill_calls_no_cast(captured, evil, tables):
    table = tables("plain")
    values = ", ".join("'{}'".format(value) for value in VALUES)
    captured.write("INSERT INTO {} VALUES (1, 'x', {})".format(table, values))
    heard, registry = Recorder(), Registry()
    registry.listen(table, "after_insert", heard, group=table)
    hub = Hub(captured.database.url, registry)
    hub.group(table, start="backfill")

    with hub:
        event = heard.next()

    assert not called(evil)
    assert event.new["c5"] == [{"e": "a", "many": ["a"]}]


def test_a_backfill_calls_no_cast_of_a_column_that_came_meanwhile(captured, evil):
    table = evil.table("id int PRIMARY KEY, was int")
    captured.write("INSERT INTO {} VALUES (1, 1)".format(table))
    heard, registry = Recorder(), Registry()
    registry.listen(table, "after_insert", heard, group=table)
    hub = Hub(captured.database.url, registry)
    hub.group(table, start="backfill")
    altering = captured.connect()
    altering.cursor().execute(
        "ALTER TABLE {} DROP COLUMN was, ADD COLUMN was evil DEFAULT 'a'".format(table)
    )

    hub.start(wait=False)
    try:
        wait_for(
            lambda: captured.execute(
                "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = %s::regclass", table
            )
            != [(0,)]
        )
        altering.commit()
        event = heard.next()
    finally:
        altering.close()
        hub.stop()

    assert not called(evil)
    assert event.new == {"id": 1, "was": "a"}


@kinds
@specs
def test_a_value_of_such_a_type_is_told_as_the_driver_gives_it(captured, evil, kind, spec):
    """However large the row: each way of the triggers writes it alike."""
    table = evil.table("id int PRIMARY KEY, secret text, e evil, d numeric", KINDS[kind], **spec)
    if kind == "partitioned":
        evil.execute("CREATE TABLE {0}_all PARTITION OF {0} DEFAULT".format(table))

    events = captured.write(
        *(
            "INSERT INTO {} VALUES ({}, repeat(md5('x'), {}), 'a', 1.10)".format(table, n, n)
            for n in (1, 1000, 20000)
        )
    )

    assert [(event.new["e"], str(event.new["d"])) for event in events] == [("a", "1.10")] * 3
