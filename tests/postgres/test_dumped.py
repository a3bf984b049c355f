"""A database that pg_dump has moved, as people move them: without owners and rights."""

import pytest

from pgevents import Denied, Hub, Registry
from pgevents.testing import wait_until

from .test_install_roles import insert_as

pytestmark = pytest.mark.every_server

#: How it was dumped, and by what it is restored.
WAYS = {"text": ("plain", "psql"), "archive": ("custom", "pg_restore")}


class Moved:
    """A database into which a dump was restored, by a role that owns nothing else."""

    def __init__(self, server, name, owner):
        self.server = server
        self.name = name
        self.owner = owner

    def execute(self, sql, *params, user="postgres"):
        return self.server.execute(sql, *params, database=self.name, user=user)

    def hub(self, user, listener, **options):
        registry = Registry()
        registry.listen("orders", "after_insert", listener)
        registry.listen("orders", "after_insert", listener, group="mailer")
        return Hub(self.server.url(self.name, user), registry, **options)


def hub_of(database, listener):
    registry = Registry()
    registry.listen("orders", "after_insert", listener)
    registry.listen("orders", "after_insert", listener, group="mailer")
    return Hub(database.url, registry)


@pytest.fixture
def orders(postgres, heard):
    """A database with a group for which something waits, and a partitioned table."""
    postgres.execute("CREATE TYPE mood AS ENUM ('happy', 'sad')")
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text, mood mood)")
    postgres.execute("CREATE TABLE parts (id int, item text) PARTITION BY RANGE (id)")
    postgres.execute("CREATE TABLE parts_low PARTITION OF parts DEFAULT")
    hub = hub_of(postgres, heard)
    hub.watch("parts")
    with hub:
        postgres.execute("INSERT INTO orders (item) VALUES ('handled')")
        heard.take(2)
    postgres.execute("INSERT INTO orders (item) VALUES ('waits')")
    return postgres


@pytest.fixture(params=WAYS)
def moved(request, server, orders):
    """The same, dumped without owners and rights, and restored by another role."""
    form, program = WAYS[request.param]
    here = server.installation
    if not all((here.bin / name).exists() for name in ("pg_dump", program)):
        pytest.skip("this PostgreSQL came without pg_dump or {}".format(program))
    owner = server.create_user()
    name = server.create_database()
    server.execute("ALTER DATABASE {} OWNER TO {}".format(name, owner))
    file = server.directory / "{}.dump".format(name)
    here.run(
        "pg_dump", "-x", "-O", "-F", form, "-f", file, server.url(orders.name, driver="postgresql")
    )
    target = server.url(name, owner, driver="postgresql")
    if program == "psql":
        here.run("psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-f", file, target)
    else:
        here.run("pg_restore", "-x", "-O", "-e", "-d", target, file)
    yield Moved(server, name, owner)
    server.drop_database(name)


def forge(database, user):
    """Attach our function to a table of one's own, which is what EXECUTE allows."""
    database.execute("CREATE SCHEMA {0} AUTHORIZATION {0}".format(user))
    database.execute("CREATE TABLE {}.mine (id int, item text)".format(user), user=user)
    database.execute(
        "CREATE TRIGGER forge AFTER INSERT ON {}.mine FOR EACH ROW EXECUTE FUNCTION"
        " pgevents.capture_row('{{}}', '{{}}', 'public.orders')".format(user),
        user=user,
    )


def test_a_dump_without_rights_is_noticed_and_the_next_install_heals_it(moved, server, heard):
    mallory, other, writer = (server.create_user() for _ in range(3))
    moved.execute("GRANT USAGE ON SCHEMA pgevents TO {}, {}".format(mallory, other))
    moved.execute(
        "GRANT INSERT ON orders, parts TO {0}; GRANT USAGE ON orders_id_seq TO {0}".format(writer)
    )

    with moved.hub(moved.owner, heard, install=False) as hub:
        before = hub.status()["warnings"]
        states = [table["state"] for table in hub.installed()]
    forge(moved, mallory)
    moved.hub(moved.owner, heard).install()

    assert states == ["ok", "ok"]
    assert "everybody may execute pgevents.capture_row()" in before[0]
    assert "pgevents install, run by the log's owner, puts that right" in before[0]
    with pytest.raises(Exception, match="permission denied for function"):
        forge(moved, other)
    with moved.hub(moved.owner, heard) as hub:
        insert_as(moved, writer, "tea")
        moved.execute("INSERT INTO parts VALUES (1, 'part')", user=writer)
        wait_until(lambda: hub.group("mailer").lag()[0] == 0)
        (warned,) = hub.status()["warnings"]
        moved.execute(warned.split(", run ")[1])
        moved.execute("GRANT SELECT ON pgevents.log TO {}".format(writer))  # a look at the rights
        wait_until(lambda: hub.status()["warnings"] == [])
        hub.drain()
    assert "a trigger on {}.mine, which nobody watches".format(mallory) in warned
    # "waits" comes to the group, "tea" to the group and to the plain listener.
    assert sorted(event.new["item"] for event in heard.rest()) == ["tea", "tea", "waits"]
    assert moved.execute("SELECT count(*) FROM pgevents.log WHERE topic = 'public.parts'") == [(1,)]


def test_whoever_starts_a_hub_first_after_the_restore_heals_it_if_he_may(moved, server, heard):
    stranger = server.create_user()

    with pytest.raises(Denied, match="the log pgevents belongs to {}".format(moved.owner)):
        moved.hub(stranger, heard).start()
    with moved.hub(moved.owner, heard) as hub:
        warnings = hub.status()["warnings"]

    assert warnings == []
    assert moved.execute(
        "SELECT DISTINCT has_function_privilege('public', oid, 'EXECUTE') FROM pg_proc"
        " WHERE pronamespace = 'pgevents'::regnamespace"
    ) == [(False,)]


def test_a_dump_of_which_the_functions_are_missing_is_made_whole(moved, heard):
    """As after a restore with -t, or one that ended in the middle."""
    moved.execute("DROP FUNCTION pgevents.cut(text), pgevents.small_sql(oid, json, json)")
    moved.execute("DROP TABLE pgevents.dead")

    with moved.hub(moved.owner, heard):
        moved.execute("INSERT INTO orders (item) VALUES ('tea')")
        items = sorted(event.new["item"] for event in heard.take(3))

    assert items == ["tea", "tea", "waits"]
