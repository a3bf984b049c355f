"""Row-level security hides rows without a word; from us it hides none."""

import pytest

from pgevents import Denied, Hub, Registry

from ..waiting import wait_for


@pytest.fixture
def owner(server):
    """A role that owns the application's table and installs."""
    return server.create_user()


@pytest.fixture
def orders(postgres, owner):
    postgres.execute('GRANT CREATE ON DATABASE "{}" TO {}'.format(postgres.name, owner))
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    postgres.execute("INSERT INTO orders (item) SELECT generate_series(1, 10)")
    postgres.execute("ALTER TABLE orders OWNER TO {}".format(owner))
    return postgres


@pytest.fixture
def program(orders, server, owner):
    """A role with the rights that are printed; the log is installed."""
    role = server.create_user()
    connection = server.connect(orders.name, owner)
    connection.autocommit = True
    connection.cursor().execute(hub_as(orders, owner, print).install(sql_only=True, role=role))
    connection.close()
    return role


def hub_as(database, role, listener, group=None, **options):
    registry = Registry()
    registry.listen("orders", "after_insert", listener, group=group)
    return Hub(database.server.url(database.name, role), registry, **options)


def test_a_backfill_of_rows_that_are_hidden_is_refused_and_not_cut(orders, owner, heard):
    orders.execute("CREATE POLICY a_few ON orders USING (id <= 3)")
    orders.execute("ALTER TABLE orders ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY")
    hub = hub_as(orders, owner, heard, "stock")
    hub.group("stock", start="backfill")

    with pytest.raises(Denied, match="backfill of public.orders .* role '{}'".format(owner)):
        hub.start()
    orders.execute("ALTER TABLE orders NO FORCE ROW LEVEL SECURITY")
    with hub:
        assert len(heard.take(10)) == 10


@pytest.mark.parametrize("table", ["log", "watch", "retention", "groups"])
def test_a_hub_from_which_the_log_is_hidden_does_not_start(orders, program, heard, table):
    orders.execute("ALTER TABLE pgevents.{} ENABLE ROW LEVEL SECURITY".format(table))

    with pytest.raises(Denied, match="pgevents.{}.* role '{}'".format(table, program)):
        hub_as(orders, program, heard, "mailer", install=False).start()


@pytest.mark.parametrize("table", ["log", "groups"])
def test_status_tells_that_the_log_is_hidden_while_a_hub_runs(orders, program, heard, table):
    alter = "ALTER TABLE pgevents.{} {{}} ROW LEVEL SECURITY".format(table)

    def trouble():
        status = hub.status()
        return [status["error"], *status["warnings"]][status["error"] is None :]

    with hub_as(orders, program, heard, "mailer", install=False, retention=4) as hub:
        orders.execute(alter.format("ENABLE"))
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        error = wait_for(trouble)[0]
        orders.execute(alter.format("DISABLE"))
        assert heard.next().new["item"] == "tea"

        wait_for(lambda: not trouble())

    assert table in error and "row-level security" in error
