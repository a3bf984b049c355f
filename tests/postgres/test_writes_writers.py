"""A writer with odd settings, without rights or under row-level security can write."""

import datetime

import psycopg2.extensions
import pytest

from .test_writes import KINDS, SPECS, kinds, make, operations, specs

COLUMNS = (
    "id int PRIMARY KEY, secret int, at timestamptz, day date, span interval,"
    " number float8, raw bytea, cost money"
)
ROW = (
    "1, 2, '2024-05-06 07:08:09.123456+00', DATE '2024-05-06',"
    " INTERVAL '1 day 02:03:04', 0.1::float8 + 0.2, decode('00ff', 'hex'), 5::money"
)
SETTINGS = {
    "search_path": "''",
    "DateStyle": "'German, DMY'",
    "TimeZone": "'Asia/Kathmandu'",
    "IntervalStyle": "iso_8601",
    "extra_float_digits": "-15",
    "bytea_output": "escape",
    "quote_all_identifiers": "on",
    "standard_conforming_strings": "off",
    "client_encoding": "LATIN1",
    "row_security": "off",
    "plan_cache_mode": "force_generic_plan",
    "default_transaction_isolation": "serializable",
    "enable_hashjoin": "off",
    "work_mem": "'64kB'",
}
LEVELS = {
    "repeatable_read": psycopg2.extensions.ISOLATION_LEVEL_REPEATABLE_READ,
    "serializable": psycopg2.extensions.ISOLATION_LEVEL_SERIALIZABLE,
}


@kinds
@pytest.mark.parametrize("spec", [SPECS["all"], SPECS["excluded"]], ids=["all", "excluded"])
def test_a_writers_settings_neither_break_its_write_nor_reach_the_log(captured, spec, kind):
    table = make(captured, COLUMNS, kind, **spec)

    events = captured.write_together(
        *("SET {} = {}".format(*setting) for setting in SETTINGS.items()),
        "INSERT INTO public.{} SELECT {}".format(table, ROW),
        "UPDATE public.{} SET id = 2".format(table),
        "DELETE FROM public.{}".format(table),
    )

    assert operations(events) == ["insert", "update", "delete"]
    for row in (events[0].new, events[1].new, events[2].old):
        assert row["at"] == datetime.datetime(
            2024, 5, 6, 7, 8, 9, 123456, tzinfo=datetime.timezone.utc
        )
        assert row["day"] == datetime.date(2024, 5, 6)
        assert row["span"] == datetime.timedelta(1, 7384)
        assert row["number"] == 0.1 + 0.2
        assert row["raw"] == b"\x00\xff"
        assert row["cost"] == "$5.00"


@pytest.fixture
def role(captured):
    """A role that may write the application's tables, and no more."""
    role = captured.database.server.create_user()
    captured.execute("GRANT USAGE ON SCHEMA public TO {}".format(role))
    yield role
    captured.execute("DROP OWNED BY {}".format(role))
    captured.execute("DROP ROLE {}".format(role))


WRITES = [
    "INSERT INTO {0} (id) VALUES (1)",
    "UPDATE {0} SET id = 2",
    "DELETE FROM {0}",
    "TRUNCATE {0}",
]


@kinds
@specs
def test_a_role_needs_no_rights_on_the_log(captured, role, spec, kind):
    table = make(captured, "id int PRIMARY KEY, item text, secret text", kind, **spec)
    captured.execute("GRANT ALL ON {} TO {}".format(table, role))

    for statement in WRITES:
        captured.database.server.execute(
            statement.format(table), database=captured.database.name, user=role
        )
    captured.write_together(
        "SET ROLE {}".format(role),
        "SET search_path = ''",
        *(statement.format("public." + table) for statement in WRITES),
    )

    assert operations(captured.heard.events[-8:]) == ["insert", "update", "delete", "truncate"] * 2


@kinds
@specs
@pytest.mark.parametrize("force", [False, True], ids=["enabled", "forced"])
def test_row_level_security_of_the_table_does_not_hinder(captured, role, spec, kind, force):
    table = make(captured, "id int PRIMARY KEY, item text, secret text", kind, **spec)
    captured.execute("ALTER TABLE {0} OWNER TO {1}".format(table, role))
    captured.execute("ALTER TABLE {} ENABLE ROW LEVEL SECURITY".format(table))
    captured.execute("CREATE POLICY own ON {} USING (id IN (1, 2))".format(table))
    if force:
        captured.execute("ALTER TABLE {} FORCE ROW LEVEL SECURITY".format(table))

    events = captured.write_together(
        "SET ROLE {}".format(role), *(statement.format(table) for statement in WRITES[:3])
    )

    assert operations(events) == ["insert", "update", "delete"]
    assert events[0].new["id"] == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("level", LEVELS)
def test_writers_of_every_isolation_level(captured, kind, level):
    table = make(captured, "id int, item text", kind)
    first, second = captured.connect(), captured.connect()
    for number, writer in enumerate([first, second]):
        writer.set_session(isolation_level=LEVELS[level])
        writer.cursor().execute("INSERT INTO {} VALUES (%s, 'tea')".format(table), (number,))

    second.commit()
    first.commit()

    assert sorted(event.new["id"] for event in captured.events()) == [0, 1]
