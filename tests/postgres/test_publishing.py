"""On PostgreSQL, publishing from SQL: who may, and what the functions refuse."""

import json

import psycopg2
import psycopg2.errors
import pytest
from sqlalchemy import create_engine

from pgevents import Denied, Hub, Registry

TIMEOUT = 20.0  # seconds


@pytest.fixture
def hub(postgres):
    with Hub(postgres.url, Registry()) as hub:
        yield hub


@pytest.fixture
def got(hub):
    found = []
    hub.subscribe("*")(found.append)
    return found


@pytest.fixture
def writer(postgres):
    """A role that may publish, and has no right on the log."""
    Hub(postgres.url, Registry()).install()
    name = "pgevents_test_publisher"
    postgres.execute("CREATE ROLE {} LOGIN".format(name))
    postgres.execute("GRANT USAGE ON SCHEMA pgevents TO {}".format(name))
    postgres.execute("GRANT EXECUTE ON FUNCTION pgevents.publish TO {}".format(name))
    yield name
    postgres.execute("DROP OWNED BY {}".format(name))
    postgres.execute("DROP ROLE {}".format(name))


def as_role(postgres, role, sql, *values):
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET ROLE {}".format(role))
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else None


def test_a_message_from_sql_is_received_as_it_was_written(postgres, hub, got):
    sql = """SELECT pgevents.publish('orders.new', '{"id": 1, "nul": "\\u0000", "n": 1.10}')"""
    id = postgres.execute(sql)[0][0]
    postgres.execute(
        "SELECT pgevents.publish('b', 'null', key => 'it''s', metadata => '{\"a\": null}')"
    )

    assert hub.drain(TIMEOUT)
    first, second = got
    assert (first.id, first.channel, first.key, first.metadata) == (id, "orders.new", None, {})
    assert first.payload == {"id": 1, "nul": "\0", "n": 1.1}
    assert (second.payload, second.key, second.metadata) == (None, "it's", {"a": None})


def test_a_role_without_any_right_on_the_log_publishes_where_it_was_granted(
    postgres, hub, got, writer
):
    as_role(postgres, writer, "SELECT pgevents.publish('a', '1')")

    assert hub.drain(TIMEOUT)
    assert [message.payload for message in got] == [1]
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        as_role(postgres, writer, "SELECT * FROM pgevents.log")
    with pytest.raises(psycopg2.errors.InsufficientPrivilege):
        as_role(postgres, writer, "INSERT INTO pgevents.log (topic, operation) VALUES ('a', 'b')")


def test_an_install_keeps_the_grant_of_a_role_and_takes_everybodys(postgres, writer):
    postgres.execute("GRANT EXECUTE ON FUNCTION pgevents.publish TO PUBLIC")
    assert any("everybody may execute pgevents.publish" in one for one in warnings(postgres))

    Hub(postgres.url, Registry()).install()

    assert not any("everybody" in one for one in warnings(postgres))
    as_role(postgres, writer, "SELECT pgevents.publish('a', '1')")
    postgres.execute("CREATE ROLE pgevents_test_nobody")
    postgres.execute("GRANT USAGE ON SCHEMA pgevents TO pgevents_test_nobody")
    try:
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_role(postgres, "pgevents_test_nobody", "SELECT pgevents.publish('a', '1')")
    finally:
        postgres.execute("DROP OWNED BY pgevents_test_nobody")
        postgres.execute("DROP ROLE pgevents_test_nobody")


def test_default_privileges_let_nobody_publish(postgres):
    postgres.execute("CREATE ROLE pgevents_test_nobody")
    postgres.execute("ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO pgevents_test_nobody")
    try:
        Hub(postgres.url, Registry()).install()
        postgres.execute("GRANT USAGE ON SCHEMA pgevents TO pgevents_test_nobody")
        with pytest.raises(psycopg2.errors.InsufficientPrivilege):
            as_role(postgres, "pgevents_test_nobody", "SELECT pgevents.publish('a', '1')")
    finally:
        postgres.execute("DROP OWNED BY pgevents_test_nobody")
        postgres.execute("DROP ROLE pgevents_test_nobody")


def warnings(postgres):
    with Hub(postgres.url, Registry(), install=False) as hub:
        return hub.status()["warnings"]


def test_the_hub_of_a_role_that_may_not_publish_says_what_to_grant(postgres, hub, writer):
    engine = postgres.engine()
    with engine.connect() as connection:
        transaction = connection.begin()
        connection.exec_driver_sql("SET LOCAL ROLE {}".format(writer))
        with pytest.raises(Denied, match="GRANT EXECUTE ON FUNCTION pgevents.publish_many"):
            hub.publish("a", 1, bind=connection)
        transaction.rollback()


@pytest.mark.parametrize(
    "arguments, said",
    [
        ("'', '1'", "no channel: ''"),
        ("NULL, '1'", "no channel: NULL"),
        ("'a.*', '1'", "no channel: 'a.*'"),
        ("repeat('x', 201), '1'", "no channel: 'xxx"),
        ("'a', NULL", "a message has a payload"),
        ("'a', '{'", "invalid input syntax for type json"),
        ("'a', '1', NULL, '[]'", "metadata are a JSON object"),
    ],
)
def test_what_is_no_message_is_refused_with_its_reason(postgres, hub, arguments, said):
    with pytest.raises(psycopg2.Error) as caught:
        postgres.execute("SELECT pgevents.publish({})".format(arguments))

    assert said in str(caught.value)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "pg8000"])
def test_every_driver_publishes_in_its_transaction(postgres, hub, got, driver):
    module = pytest.importorskip(driver)
    assert module is not None
    url = postgres.url.replace("+psycopg2", "+" + driver)
    try:
        engine = create_engine(url)
    except Exception as error:  # SQLAlchemy 1.4 has no psycopg
        pytest.skip(str(error))
    with engine.begin() as connection:
        ids = hub.publish_many([("a", "it's"), ("b", {"x": [1, "%s :x {}"]})], bind=connection)
    engine.dispose()

    assert hub.drain(TIMEOUT)
    assert [(message.id, message.payload) for message in got] == list(
        zip(ids, ["it's", {"x": [1, "%s :x {}"]}])
    )


def test_a_look_alike_on_the_search_path_is_not_called(postgres, hub, got):
    postgres.execute("CREATE SCHEMA evil")
    postgres.execute(
        "CREATE FUNCTION evil.strpos(text, text) RETURNS int LANGUAGE plpgsql"
        " AS $$ BEGIN RAISE 'called'; END $$"
    )
    with postgres.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SET search_path = evil, pg_catalog")
        cursor.execute("SELECT pgevents.publish('a', '1')")

    assert hub.drain(TIMEOUT) and len(got) == 1


def test_a_megabyte_is_published_and_received(hub, got):
    payload = {"text": "é\0" * 200_000}

    hub.publish("a", payload)

    assert hub.drain(TIMEOUT)
    assert got[0].payload == payload


def test_strangers_rows_under_a_channel_are_read_without_harm(postgres, hub, got):
    insert = "INSERT INTO pgevents.log (topic, operation, old, new) VALUES (%s, 'read', %s, %s)"
    postgres.execute(insert, "channel:a", None, None)
    postgres.execute(insert, "channel:a", json.dumps([1]), json.dumps(7))

    assert hub.drain(TIMEOUT)
    assert [(message.payload, message.metadata) for message in got] == [(None, {}), (7, {})]
