"""An Engine leads its hub to where it writes itself, whatever tells it where that is."""

import pytest
import sqlalchemy
from sqlalchemy import event
from sqlalchemy.engine import make_url

from pgevents import Hub, UsageError

# SQLAlchemy 1.4 has no psycopg.
DRIVERS = ["psycopg2", "pg8000"] + (["psycopg"] if sqlalchemy.__version__ >= "2" else [])


@pytest.fixture
def shop(postgres):
    """A database with two tables of one name, of which the path of most finds the wrong one."""
    postgres.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    postgres.execute("CREATE SCHEMA sales")
    postgres.execute("CREATE TABLE sales.orders (id int PRIMARY KEY)")
    return postgres


def arguments(database, driver):
    """What a driver is given instead of a URL."""
    name = "database" if driver == "pg8000" else "dbname"
    return {
        "host": "127.0.0.1",
        "port": database.server.port,
        "user": "postgres",
        name: database.name,
    }


def look_into_sales(engine):
    """Set the search_path as SQLAlchemy's documentation does."""

    @event.listens_for(engine, "connect", insert=True)
    def set_search_path(connection, record):
        before, connection.autocommit = connection.autocommit, True
        cursor = connection.cursor()
        cursor.execute("SET SESSION search_path = sales")
        cursor.close()
        connection.autocommit = before


def write(engine, statement="INSERT INTO orders VALUES (1)"):
    with engine.begin() as connection:
        connection.execute(sqlalchemy.text(statement))


@pytest.mark.parametrize("driver", DRIVERS)
def test_what_an_engines_connections_are_given_and_do_at_first_counts(
    shop, registry, heard, driver
):
    engine = sqlalchemy.create_engine(
        "postgresql+{}://".format(driver), connect_args=arguments(shop, driver)
    )
    look_into_sales(engine)
    registry.listen("orders", "after_insert", heard)

    with Hub(engine, registry):
        write(engine)
        assert heard.next().schema == "sales"

    engine.dispose()


@pytest.mark.parametrize("driver", sorted({*DRIVERS} - {"pg8000"}))
def test_the_options_in_connect_args_count(shop, registry, heard, driver):
    engine = sqlalchemy.create_engine(
        make_url(shop.url).set(drivername="postgresql+" + driver),
        connect_args={"options": "-csearch_path=sales"},
    )
    registry.listen("orders", "after_insert", heard)

    with Hub(engine, registry):
        write(engine)
        assert heard.next().schema == "sales"

    engine.dispose()


def test_a_hook_that_changes_the_arguments_counts(shop, registry, heard):
    url = make_url(shop.url).set(drivername="postgresql+pg8000", database="elsewhere")
    engine = sqlalchemy.create_engine(url)
    event.listen(
        engine, "do_connect", lambda dialect, record, args, given: given.update(database=shop.name)
    )
    registry.listen("orders", "after_insert", heard)

    with Hub(engine, registry):
        write(engine)
        heard.next()

    engine.dispose()


def test_an_engine_that_writes_elsewhere_is_refused(shop, registry, heard):
    import pg8000.dbapi

    def create():
        return pg8000.dbapi.connect(**arguments(shop, "pg8000"))

    engine = sqlalchemy.create_engine(
        make_url(shop.server.url("postgres")).set(drivername="postgresql+pg8000"), creator=create
    )
    registry.listen("orders", "after_insert", heard)

    with pytest.raises(UsageError, match="'{}'.*'postgres'".format(shop.name)):
        Hub(engine, registry).start()

    engine.dispose()


def test_a_restart_of_the_server_does_not_make_another_place_of_it(shop, registry, heard):
    engine = sqlalchemy.create_engine(shop.url)
    hub = Hub(engine, registry)
    registry.listen("orders", "after_insert", heard)
    hub._backend._address.parameters()

    shop.server.restart("fast")
    with hub:
        write(engine)
        heard.next()

    engine.dispose()


@pytest.mark.parametrize("schema", [None, "tenant"])
def test_a_schema_translate_map_counts_for_names_and_tables(shop, registry, heard, schema):
    engine = sqlalchemy.create_engine(shop.url)
    mapped = engine.execution_options(schema_translate_map={schema: "sales"})
    orders = sqlalchemy.Table(
        "orders", sqlalchemy.MetaData(), sqlalchemy.Column("id", sqlalchemy.Integer), schema=schema
    )
    registry.listen(orders, "after_insert", heard)
    name = "tenant.orders" if schema else "orders"
    registry.listen(name, "after_insert", lambda event: heard(event))

    with Hub(mapped, registry):
        with mapped.begin() as connection:
            connection.execute(orders.insert().values(id=1))
        assert [found.topic for found in heard.take(2)] == ["sales.orders"] * 2
        shop.execute("INSERT INTO public.orders VALUES (2)")

    assert heard.rest() == []
    engine.dispose()


def test_an_engine_that_cannot_connect_says_why_without_its_secrets(shop, registry):
    def create():
        raise KeyError("hunter2")

    refused = sqlalchemy.create_engine(
        make_url(shop.url).set(drivername="postgresql+pg8000", port=1)
    )
    broken = sqlalchemy.create_engine(shop.url, creator=create)

    for engine, words in (refused, "no connection to PostgreSQL"), (broken, "KeyError"):
        with pytest.raises(Exception, match=words) as caught:
            Hub(engine, registry).install()
        assert "hunter2" not in str(caught.value)
