"""A capture must never break the application's own write, and its event arrives."""

import uuid

import pytest

SPECS = {
    "all": {},
    "keys_of_old": {"old": False},
    "excluded": {"exclude": ["secret"]},
    "included": {"include": ["id", "item"]},
    "excluded_keys_of_old": {"exclude": ["secret"], "old": False},
}
specs = pytest.mark.parametrize("spec", SPECS.values(), ids=SPECS)
KINDS = {"plain": "", "partitioned": "PARTITION BY RANGE (id)"}
kinds = pytest.mark.parametrize("kind", KINDS)


def make(captured, columns, kind, **spec):
    table = captured.table(columns, KINDS[kind], **spec)
    if kind == "partitioned":
        captured.execute("CREATE TABLE {0}_all PARTITION OF {0} DEFAULT".format(table))
    return table


def operations(events):
    return [event.operation for event in events]


@pytest.mark.parametrize(
    "columns, key, wanted",
    [
        ("k uuid PRIMARY KEY", "'{}'".format(uuid.UUID(int=1)), uuid.UUID(int=1)),
        ("k text PRIMARY KEY", "'it''s {a} \"key\"'", 'it\'s {a} "key"'),
        ("k bigint PRIMARY KEY", "9223372036854775807", 2**63 - 1),
        ("k int, l text, PRIMARY KEY (l, k)", "1, 'x'", ("x", 1)),
        ("k int, l text", "1, 'x'", None),
    ],
)
@pytest.mark.parametrize("spec", [{}, {"old": False}], ids=["all", "keys_of_old"])
def test_a_table_has_any_key_or_none(captured, columns, key, wanted, spec):
    table = captured.table(columns + ", item text", **spec)

    events = captured.write(
        "INSERT INTO {} VALUES ({}, 'tea')".format(table, key),
        "UPDATE {} SET item = 'milk'".format(table),
        "DELETE FROM {}".format(table),
    )

    assert [(e.operation, e.key) for e in events] == [
        ("insert", wanted),
        ("update", wanted),
        ("delete", wanted),
    ]


@kinds
@pytest.mark.parametrize("size", [8100, 50000000])
def test_a_row_may_be_large(captured, kind, size):
    table = make(captured, "id int, item text", kind)

    (event,) = captured.write("INSERT INTO {} VALUES (1, repeat('x', {}))".format(table, size))

    assert len(event.new["item"]) == size


NAMES = [
    "Users",
    "order",
    "group",
    "it's",
    "two words",
    'a"quote',
    "100%",
    "%s",
    "{}",
    "%1$s",
    "camelCase",
    "x" * 63,
    "a.dot",
    "back\\slash",
    "ünï",
    "$$",
    ":name",
    "new_rows",
    "log",
]


@pytest.mark.parametrize("kind, schema", [("plain", "public"), ("partitioned", "Shop-1")])
@pytest.mark.parametrize("name", NAMES)
def test_tables_and_columns_have_any_name(captured, name, schema, kind):
    def quoted(name):
        return '"' + name.replace('"', '""') + '"'

    captured.execute('CREATE SCHEMA IF NOT EXISTS "Shop-1"')
    table = quoted(schema) + "." + quoted(name)
    columns = "id int, {} text".format(quoted(name))
    captured.execute("CREATE TABLE {} ({}) {}".format(table, columns, KINDS[kind]))
    if kind == "partitioned":
        part = quoted(schema) + "." + quoted("p" + name[1:])
        captured.execute("CREATE TABLE {} PARTITION OF {} DEFAULT".format(part, table))
    captured.watch(table, exclude=["id"])

    events = captured.write(
        "INSERT INTO {} VALUES (1, 'tea')".format(table),
        "UPDATE {} SET {} = 'milk'".format(table, quoted(name)),
        "DELETE FROM {}".format(table),
        "TRUNCATE {}".format(table),
    )
    captured.execute("DROP TABLE {}".format(table))

    assert [(e.operation, e.schema, e.table, e.new) for e in events] == [
        ("insert", schema, name, {name: "tea"}),
        ("update", schema, name, {name: "milk"}),
        ("delete", schema, name, None),
        ("truncate", schema, name, None),
    ]


COLUMNS = """n o i r x row place kept new old tg_op tg_argv tg_relid tg_table_name tg_nargs new_rows
old_rows seq topic pgevents_columns pgevents_old pgevents_new pgevents_kept relation spec operation
context a attname position key keys json""".split()


@kinds
@specs
def test_columns_may_bear_the_names_that_the_capture_uses(captured, spec, kind):
    names = ["id", "item", "secret", *COLUMNS]
    columns = ", ".join('"{}" int'.format(name) for name in names)
    table = make(captured, columns, kind, **spec)
    values = ", ".join(map(str, range(len(names))))

    events = captured.write(
        "INSERT INTO {} VALUES ({})".format(table, values),
        "UPDATE {} SET {}".format(table, ", ".join('"{0}" = "{0}" + 100'.format(n) for n in names)),
        "DELETE FROM {}".format(table),
    )

    seen = [n for n in spec.get("include", names) if n not in spec.get("exclude", ())]
    before = {name: names.index(name) for name in seen}
    after = {name: value + 100 for name, value in before.items()}
    assert [event.new for event in events] == [before, after, None]
    kept = spec.get("old", True)
    assert [event.old for event in events] == [None, before if kept else {}, after if kept else {}]


@kinds
@pytest.mark.parametrize("spec", [SPECS["all"], SPECS["excluded"]], ids=["all", "excluded"])
@pytest.mark.parametrize("name", ["n", "o", "r", "x", "row", "new_rows", "pgevents_columns"])
def test_a_table_may_be_called_like_its_column(captured, name, spec, kind):
    table = '"{}"'.format(name)
    captured.execute(
        "CREATE TABLE {0} (id int, item text, secret text, {0} int) {1}".format(table, KINDS[kind])
    )
    if kind == "partitioned":
        captured.execute("CREATE TABLE part PARTITION OF {} DEFAULT".format(table))
    captured.watch(name, **spec)

    events = captured.write_together(
        "INSERT INTO {} VALUES (1, 'tea', 's', 2)".format(table),
        "UPDATE {} SET item = 'milk'".format(table),
        "DELETE FROM {}".format(table),
    )
    captured.execute("DROP TABLE {}".format(table))

    assert operations(events) == ["insert", "update", "delete"]
