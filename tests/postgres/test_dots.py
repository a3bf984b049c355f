"""Names with dots: the topic "a.b.c" may mean two tables, and a log row must not."""

import pytest
from sqlalchemy import Column, Integer, MetaData, Table

from pgevents import Hub, NotInstalled, Registry, UsageError

from ..waiting import wait_for

NAMES = [("a.b", "c"), ("a", "b.c")]
BOTH = r'"a"."b.c" and "a.b"."c"'


@pytest.fixture
def dotted(postgres):
    for schema, name in NAMES:
        postgres.execute(
            'CREATE SCHEMA "{0}"; CREATE TABLE "{0}"."{1}" (id int)'.format(schema, name)
        )
    return postgres


def table(schema, name):
    return Table(name, MetaData(), Column("id", Integer, primary_key=True), schema=schema)


def hub_of(database, *names, listener=print, **options):
    registry = Registry()
    for schema, name in names:
        registry.listen(table(schema, name), "after_insert", listener)
    return Hub(database.url, registry, **options)


@pytest.mark.every_server
@pytest.mark.parametrize("first, second", [NAMES, NAMES[::-1]], ids=str)
def test_the_second_table_of_one_topic_is_refused(dotted, heard, first, second):
    hub_of(dotted, first, service="one").install()

    with pytest.raises(UsageError, match="have one topic, a.b.c: their events cannot be told"):
        hub_of(dotted, second, service="two").install()
    with pytest.raises(NotInstalled):
        hub_of(dotted, second, service="two", install=False).start()
    with hub_of(dotted, first, listener=heard) as hub:
        dotted.execute('INSERT INTO "{}"."{}" VALUES (1)'.format(*second))
        dotted.execute('INSERT INTO "{}"."{}" VALUES (2)'.format(*first))
        assert heard.next().new == {"id": 2}
        assert hub.status()["warnings"] == []


def test_two_tables_of_one_topic_in_one_hub_are_refused(dotted):
    with pytest.raises(UsageError, match="have one topic, a.b.c"):
        hub_of(dotted, *NAMES).install()


@pytest.mark.parametrize("first, second", [NAMES, NAMES[::-1]], ids=str)
def test_a_table_that_nobody_captures_is_not_taken_for_the_one_that_is(dotted, first, second):
    hub = hub_of(dotted, first)
    hub.install()
    dotted.execute('ALTER TABLE "{}"."{}" ADD strange text'.format(*second))

    (table,) = hub.installed()
    hub.uninstall()

    assert table["state"] == "ok"
    assert dotted.execute("SELECT count(*) FROM pg_trigger WHERE NOT tgisinternal") == [(0,)]


def test_a_captured_table_that_is_renamed_to_the_topic_of_another_is_said_within_seconds(
    dotted, heard
):
    dotted.execute('ALTER TABLE "a"."b.c" RENAME TO mine')
    hub_of(dotted, ("a", "mine"), service="two").install()

    with hub_of(dotted, ("a.b", "c"), listener=heard) as hub:
        dotted.execute('ALTER TABLE "a".mine RENAME TO "b.c"')
        (warned,) = wait_for(lambda: hub.status()["warnings"], 15)
        dotted.execute('ALTER TABLE "a"."b.c" RENAME TO mine')
        wait_for(lambda: hub.status()["warnings"] == [], 15)

    assert "the tables {} have one topic, a.b.c".format(BOTH) in warned


def test_each_of_many_names_with_dots_has_a_topic_of_its_own_on_sqlite(sqlite, registry, heard):
    names = ["a.b", "main.a", "a", "b", 'a."b"', "main.a.b"]
    for name in names:
        sqlite.execute('CREATE TABLE "{}" (id integer PRIMARY KEY)'.format(name.replace('"', '""')))
        registry.listen(Table(name, MetaData(), Column("id", Integer)), "after_insert", heard)

    with Hub(sqlite.url, registry):
        for number, name in enumerate(names):
            sqlite.execute('INSERT INTO "{}" VALUES ({})'.format(name.replace('"', '""'), number))
        found = {event.new["id"]: event.table for event in heard.take(len(names))}

    assert found == dict(enumerate(names))
