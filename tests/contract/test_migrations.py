"""Alembic and pgevents in one database: neither takes what is the other's."""

import pytest
import sqlalchemy
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext
from alembic.operations import Operations

from pgevents import Hub, UsageError
from pgevents.migrations import include_name, include_object
from pgevents.tables import Tables

from ..waiting import wait_for

# SQLAlchemy knows no type of this name, and says so whenever it reads the log's columns.
pytestmark = pytest.mark.filterwarnings("ignore:Did not recognize type 'xid8'")

NAMES = ("log", "watch", "retention", "groups", "leases", "dead")


@pytest.fixture
def installed(orders, registry, heard):
    """A table of orders that is captured; the hub does not run."""
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    hub.install()
    return hub


def context_of(connection, **options):
    return MigrationContext.configure(connection, opts=options)


def proposals(database, metadata=None, **options):
    """What Alembic would change: kind and name of each table or index."""
    if metadata is None:
        metadata = sqlalchemy.MetaData()
        sqlalchemy.Table(
            "orders",
            metadata,
            *[
                sqlalchemy.Column(name, kind, primary_key=name == "id")
                for name, kind in (
                    ("id", sqlalchemy.Integer),
                    ("item", sqlalchemy.Text),
                    ("status", sqlalchemy.Text),
                )
            ],
        )
    with database.engine().connect() as connection:
        found = compare_metadata(context_of(connection, **options), metadata)
    # What is a list is about a column: SQLite's keys may be NULL.
    return [(change[0], change[1].name) for change in found if isinstance(change, tuple)]


def need_schema(database):
    """Skip a test where SQLAlchemy lists no schema called pgevents, and so Alembic sees none."""
    if database.kind != "sqlite":
        if "pgevents" not in sqlalchemy.inspect(database.engine()).get_schema_names():
            pytest.skip("this SQLAlchemy takes pgevents for a schema of PostgreSQL's own (pg_%)")


@pytest.mark.parametrize("schemas", [False, True], ids=["one schema", "all schemas"])
def test_autogenerate_lets_the_tables_of_a_hub_be(orders, installed, schemas):
    if schemas:
        need_schema(orders)
    proposed = proposals(orders, include_schemas=schemas)
    by_object = proposals(orders, include_schemas=schemas, include_object=include_object())
    by_name = proposals(orders, include_schemas=schemas, include_name=include_name())

    assert bool(proposed) == (schemas or orders.kind == "sqlite")
    assert by_object == by_name == []


def test_autogenerate_lets_the_tables_of_any_log_be(orders, registry):
    registry.listen("orders", "after_insert", print)
    Hub(orders.url, registry, schema="shop_log").install()

    assert (
        proposals(orders, include_schemas=True, include_object=include_object(schema="shop_log"))
        == []
    )
    with pytest.raises(UsageError, match="lower-case"):
        include_object(schema="Shop")


def test_an_applications_own_rule_counts_for_the_rest(orders, installed):
    orders.execute("CREATE TABLE legacy (id int)")
    orders.execute("CREATE TABLE pgevents_notes (id int)")

    def no_legacy(thing, name, type_, reflected, compare_to):
        return name != "legacy"

    def no_legacy_name(name, type_, parent_names):
        return name != "legacy"

    by_object = proposals(orders, include_object=include_object(no_legacy))
    by_name = proposals(orders, include_name=include_name(no_legacy_name))

    assert by_object == by_name == [("remove_table", "pgevents_notes")]


def test_an_application_may_have_the_tables_in_its_own_migrations(orders, installed):
    need_schema(orders)
    ours = Tables("sqlite" if orders.kind == "sqlite" else "postgresql").metadata
    metadata = sqlalchemy.MetaData()
    sqlalchemy.Table("orders", metadata, autoload_with=orders.engine())

    proposed = proposals(
        orders, [metadata, ours], include_schemas=True, include_object=include_object()
    )

    assert proposed == []


def test_what_autogenerate_would_drop_comes_back_while_a_hub_runs(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)

    def insert():
        try:
            orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        except Exception:
            return False
        return True

    with Hub(orders.url, registry, retention=4) as hub:
        with orders.engine().begin() as connection:
            operations = Operations(context_of(connection))
            for table in Tables(hub.status()["database"]).metadata.sorted_tables:
                operations.drop_table(table.name, schema=table.schema)
        wait_for(insert, 10)
        wait_for(lambda: heard.rest() or (insert() and None), 10)

    assert gaps


def test_each_table_that_somebody_dropped_is_made_again_by_install(orders, installed, heard):
    need_schema(orders)
    ours = Tables("sqlite" if orders.kind == "sqlite" else "postgresql")

    for name in NAMES:
        orders.execute("DROP TABLE {}".format(ours.name(name)))
        installed.install()
        with installed:
            orders.execute("INSERT INTO orders (item) VALUES ('{}')".format(name))
            assert heard.next().new["item"] == name

    assert [table["state"] for table in installed.installed()] == ["ok"]


@pytest.mark.parametrize("names", [["watch"], ["log"], NAMES[1:], NAMES], ids="-".join)
def test_uninstalling_what_was_dropped_by_hand_lets_writes_be(orders, installed, names):
    need_schema(orders)
    ours = Tables("sqlite" if orders.kind == "sqlite" else "postgresql")
    if orders.kind == "sqlite":
        orders.execute("DROP TABLE pgevents_settings")
    for name in names:
        orders.execute("DROP TABLE {}".format(ours.name(name)))

    installed.uninstall(everything=True)
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")

    assert orders.execute("SELECT item FROM orders") == [("tea",)]
    assert installed.installed() == []


def test_alembics_batch_mode_makes_a_table_anew_beside_a_running_hub(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        with orders.engine().begin() as connection:
            operations = Operations(context_of(connection))
            with hub.altering(connection, "orders"):
                with operations.batch_alter_table("orders") as batch:
                    batch.alter_column("status", new_column_name="state")
                    batch.drop_column("item")
        orders.execute("INSERT INTO orders (state) VALUES ('paid')")
        event = heard.next()
        assert hub.drain()

    assert event.new == {"id": 1, "state": "paid"}
    assert gaps == []


@pytest.mark.parametrize(
    "alter, column", [("ADD COLUMN note text", "note"), ("RENAME COLUMN status TO note", "note")]
)
def test_what_was_written_between_a_migration_and_the_next_start_is_whole_or_is_told(
    orders, registry, heard, gaps, alter, column
):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry):
        pass
    orders.execute("ALTER TABLE orders {}".format(alter))
    orders.execute("INSERT INTO orders (item, note) VALUES ('tea', 'hot')")

    with Hub(orders.url, registry):
        first = heard.next()
        orders.execute("INSERT INTO orders (item, note) VALUES ('tea', 'iced')")
        second = heard.next()
    with Hub(orders.url, registry):
        pass

    assert first.new.get(column) == "hot" or [column in gap for gap in gaps] == [True]
    assert second.new[column] == "iced"
