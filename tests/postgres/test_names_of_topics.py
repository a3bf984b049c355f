"""A schema may be named like the topics of channels, streams and notifications."""

import pytest

from pgevents import Hub, UsageError

TIMEOUT = 20.0  # seconds


@pytest.mark.parametrize("schema", ["channel:a", "stream:a", "notify:a", "backfill:a", 'stream:["'])
def test_a_table_in_a_schema_of_such_a_name_is_listened_to(postgres, registry, heard, schema):
    quoted = '"{}"'.format(schema.replace('"', '""'))
    postgres.execute("CREATE SCHEMA {}".format(quoted))
    postgres.execute("CREATE TABLE {}.t (id int PRIMARY KEY, price numeric)".format(quoted))
    registry.listen("{}.t".format(quoted), "after_insert", heard)
    messages = []

    with Hub(postgres.url, registry) as hub:
        hub.subscribe("*")(messages.append)
        postgres.execute("INSERT INTO {}.t VALUES (1, 1.10)".format(quoted))
        event = heard.next(TIMEOUT)

    assert (event.key, event.table, str(event.new["price"])) == (1, "t", "1.10")
    assert messages == []


@pytest.mark.parametrize("schema", ["channel:a", "stream:a"])
def test_a_group_says_that_it_cannot_listen_there(postgres, registry, heard, schema):
    postgres.execute('CREATE SCHEMA "{}"'.format(schema))
    postgres.execute('CREATE TABLE "{}".t (id int PRIMARY KEY)'.format(schema))
    registry.listen('"{}".t'.format(schema), "after_insert", heard, group="g")

    with pytest.raises(UsageError, match="named like a channel or a stream"):
        Hub(postgres.url, registry).start()
