"""A table that is altered, moved or dropped after its triggers were made can still be written."""

import pytest

from .test_writes import SPECS, kinds, make, operations

specs = pytest.mark.parametrize(
    "spec", [SPECS["all"], SPECS["excluded_keys_of_old"]], ids=["all", "excluded"]
)
WRITES = ["INSERT INTO {0} (id) VALUES (1), (2)", "UPDATE {0} SET id = id + 10", "DELETE FROM {0}"]
ALTERATIONS = {
    "added": "ALTER TABLE {0} ADD more int DEFAULT 7",
    "added_by_expression": "ALTER TABLE {0} ADD at timestamptz DEFAULT clock_timestamp()",
    "dropped": "ALTER TABLE {0} DROP item",
    "dropped_secret": "ALTER TABLE {0} DROP secret",
    "dropped_and_added": "ALTER TABLE {0} DROP item, ADD item int DEFAULT 3",
    "renamed": "ALTER TABLE {0} RENAME item TO thing",
    "renamed_key": "ALTER TABLE {0} RENAME id TO id2; ALTER TABLE {0} ADD id int,"
    " ALTER id2 SET DEFAULT random() * 1000000",
    "retyped": "ALTER TABLE {0} ALTER item DROP DEFAULT,"
    " ALTER item TYPE jsonb USING to_jsonb(item)",
    "retyped_key": "ALTER TABLE {0} ALTER id TYPE bigint",
    "without_key": "ALTER TABLE {0} DROP CONSTRAINT IF EXISTS {0}_pkey",
    "all_dropped": "ALTER TABLE {0} DROP item, DROP secret",
    "generated": "ALTER TABLE {0} ADD twice int GENERATED ALWAYS AS (id * 2) STORED",
}
alterations = pytest.mark.parametrize("alteration", ALTERATIONS.values(), ids=ALTERATIONS)
COLUMNS = "id int PRIMARY KEY, item text DEFAULT 'tea', secret text DEFAULT 's'"
SIX = ["insert"] * 2 + ["update"] * 2 + ["delete"] * 2


def writes(table):
    return [write.format(table) for write in WRITES]


def alteration_of(kind, alteration, table):
    if kind == "partitioned" and "TYPE bigint" in alteration:
        pytest.skip("PostgreSQL refuses to retype the partition key")
    return alteration.format(table)


@kinds
@specs
@alterations
def test_a_session_that_wrote_before_goes_on_after_the_alteration(captured, kind, spec, alteration):
    table = make(captured, COLUMNS, kind, **spec)

    events = captured.write_together(
        *writes(table), alteration_of(kind, alteration, table), *writes(table)
    )

    assert operations(events) == SIX * 2


@kinds
@specs
def test_two_sessions_write_around_alterations(captured, kind, spec):
    table = make(captured, COLUMNS, kind, **spec)
    writer = captured.connect()
    writer.autocommit = True

    def write():
        for statement in writes(table):
            writer.cursor().execute(statement)

    write()
    for name in ["added", "dropped", "renamed_key", "dropped_secret", "without_key"]:
        captured.execute(ALTERATIONS[name].format(table))
        write()

    assert operations(captured.events()) == SIX * 6


@pytest.mark.parametrize("spec", [SPECS["all"], SPECS["excluded"]], ids=["all", "excluded"])
def test_the_row_is_the_one_after_the_alteration(captured, spec):
    table = captured.table(COLUMNS, **spec)

    before, after = captured.write_together(
        "INSERT INTO {} (id) VALUES (1)".format(table),
        "ALTER TABLE {} DROP item, ADD more int DEFAULT 7".format(table),
        "UPDATE {} SET id = 2".format(table),
    )

    assert {"id": 1, "item": "tea"}.items() <= before.new.items()
    assert {"id": 2, "more": 7}.items() <= after.new.items()
    assert "item" not in after.new


@kinds
@specs
def test_a_table_is_renamed_moved_and_dropped(captured, kind, spec):
    table = make(captured, COLUMNS, kind, **spec)
    captured.execute("CREATE SCHEMA IF NOT EXISTS away")

    captured.write(*writes(table))
    captured.execute("ALTER TABLE {0} RENAME TO {0}_new".format(table))
    renamed = captured.write(*writes(table + "_new"))
    captured.execute("ALTER TABLE {}_new SET SCHEMA away".format(table))
    moved = captured.write(*writes("away.{}_new".format(table)))
    captured.execute("DROP TABLE away.{}_new".format(table))

    assert operations(renamed) == operations(moved) == SIX


def test_a_table_of_the_same_name_can_be_made_anew(captured):
    table = captured.table(COLUMNS)

    captured.write("DROP TABLE {}".format(table), "CREATE TABLE {} ({})".format(table, COLUMNS))
    captured.watch(table)

    assert operations(captured.write(*writes(table))) == SIX
