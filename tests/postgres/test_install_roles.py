"""A program that may not create anything: the owner installs, from what we print."""

import pytest
from psycopg2 import sql

from pgevents import Denied, Hub, NotInstalled, Registry

from ..orders import log_size
from ..waiting import wait_for


@pytest.fixture
def owner(server):
    """A user who owns a schema of the application and may create others."""
    return server.create_user()


@pytest.fixture
def program(server):
    """A user who may read and write the application's tables, and nothing more."""
    return server.create_user()


@pytest.fixture
def orders(postgres, owner, program):
    name = sql.Identifier
    for statement in (
        sql.SQL("GRANT CREATE ON DATABASE {} TO {}").format(name(postgres.name), name(owner)),
        sql.SQL("CREATE TABLE orders (id serial PRIMARY KEY, item text)"),
        sql.SQL("ALTER TABLE orders OWNER TO {}").format(name(owner)),
        sql.SQL("GRANT SELECT, INSERT, UPDATE, DELETE ON orders TO {}").format(name(program)),
        sql.SQL("GRANT USAGE ON SEQUENCE orders_id_seq TO {}").format(name(program)),
    ):
        postgres.execute(statement)
    return postgres


def hub_as(database, user, listener, moment="after_insert", group=None, **options):
    """A hub of a user that listens to orders, not started."""
    registry = Registry()
    registry.listen("orders", moment, listener, group=group)
    return Hub(database.server.url(database.name, user), registry, **options)


def run_printed(database, user, hub, role, **more):
    """Let a user run what install() prints."""
    connection = database.server.connect(database.name, user)
    connection.autocommit = True
    connection.cursor().execute(hub.install(sql_only=True, role=role, **more))
    connection.close()


def insert_as(database, user, item):
    database.server.execute(
        "INSERT INTO orders (item) VALUES (%s)", item, database=database.name, user=user
    )


def test_a_program_listens_and_keeps_house_with_the_rights_that_were_printed(
    orders, owner, program, heard
):
    run_printed(orders, owner, hub_as(orders, owner, heard), program)

    with hub_as(orders, program, heard, install=False, retention=1):
        insert_as(orders, program, "tea")
        event = heard.next()
        wait_for(lambda: log_size(orders) == 0)

    assert event.new["item"] == "tea"


def test_what_was_printed_is_what_install_would_do(orders, owner, program, heard):
    printed = hub_as(orders, owner, heard, "after_change")
    printed.watch("orders", "after_truncate", exclude=["item"])
    run_printed(orders, owner, printed, program)

    state = hub_as(orders, owner, heard).installed()[0]
    before = orders.execute("SELECT oid, xmin::text FROM pg_trigger ORDER BY oid")
    printed.install()

    assert state["state"] == "ok"
    assert (state["operations"], state["exclude"]) == (
        ["insert", "update", "delete", "truncate"],
        ["item"],
    )
    assert orders.execute("SELECT oid, xmin::text FROM pg_trigger ORDER BY oid") == before


def test_the_printed_sql_may_be_run_again(orders, owner, program, heard):
    hub = hub_as(orders, owner, heard)
    run_printed(orders, owner, hub, program)
    insert_as(orders, program, "tea")

    run_printed(orders, owner, hub, program)

    assert log_size(orders) == 1
    assert hub.installed()[0]["state"] == "ok"


def test_a_group_works_with_the_rights_that_were_printed(orders, owner, program, heard):
    run_printed(orders, owner, hub_as(orders, owner, heard), program)

    def handle(event):
        if event.new["item"] == "poison":
            raise ValueError("poison")
        heard(event)

    insert_as(orders, program, "before")
    hub = hub_as(orders, program, handle, group="mailer", install=False, retention=1)
    group = hub.group("mailer", max_attempts=1, start="backfill")
    with hub:
        insert_as(orders, program, "poison")
        insert_as(orders, program, "after")
        items = [event.new["item"] for event in heard.take(2)]
        dead = wait_for(group.dead_letters)
        group.retry_dead()
        wait_for(group.dead_letters)
    group.drop()

    assert items == ["before", "after"]
    assert [letter.event.new["item"] for letter in dead] == ["poison"]


def test_without_the_rights_to_install_it_is_denied_with_the_way_out(orders, program, heard):
    with pytest.raises(Denied) as caught:
        hub_as(orders, program, heard).start()

    sentence = str(caught.value)
    assert "permission denied for database" in sentence
    assert "pgevents sql" in sentence and "install=False" in sentence


def test_who_does_not_own_the_table_is_denied_with_the_way_out(orders, owner, program, heard):
    run_printed(orders, owner, hub_as(orders, owner, heard), program)
    orders.execute(
        sql.SQL("GRANT INSERT, UPDATE ON pgevents.watch TO {}").format(sql.Identifier(program))
    )

    with pytest.raises(Denied) as caught:
        hub_as(orders, program, heard, "after_delete").start()

    assert "may not change public.orders" in str(caught.value)


def test_a_program_without_rights_on_the_log_is_denied(orders, owner, program, heard):
    hub_as(orders, owner, heard).install()

    with pytest.raises(Denied, match="pgevents"):
        hub_as(orders, program, heard, install=False).start()


@pytest.mark.parametrize("install", [True, False])
@pytest.mark.parametrize("usage", [True, False])
def test_a_log_of_somebody_else_is_denied_with_its_owner_and_the_way_out(
    orders, owner, program, heard, install, usage
):
    hub_as(orders, "postgres", heard).install()
    if usage:
        orders.execute(
            sql.SQL("GRANT USAGE ON SCHEMA pgevents TO {}").format(sql.Identifier(owner))
        )

    with pytest.raises(Denied) as caught:
        hub_as(orders, owner, heard, install=install).start()

    sentence = str(caught.value)
    assert "the log pgevents belongs to postgres" in sentence
    assert "pgevents sql" in sentence and "--role {}".format(owner) in sentence
    assert "install=False" in sentence


def test_who_may_read_the_log_of_somebody_else_and_not_install_is_told_whose_it_is(
    orders, owner, program, heard
):
    run_printed(orders, "postgres", hub_as(orders, "postgres", heard), owner)

    with pytest.raises(Denied, match="the log pgevents belongs to postgres"):
        hub_as(orders, owner, heard, "after_delete").start()


def test_a_log_that_was_never_installed_is_named(orders, program, heard):
    with pytest.raises(NotInstalled, match="log pgevents.log is not installed"):
        hub_as(orders, program, heard, install=False).start()


def test_an_operation_or_a_trigger_that_is_missing_is_named(orders, owner, program, heard):
    run_printed(orders, owner, hub_as(orders, owner, heard), program)

    with pytest.raises(NotInstalled, match="public.orders is not watched for delete"):
        hub_as(orders, program, heard, "after_delete", install=False).start()
    orders.execute("DROP TRIGGER pgevents_insert ON orders")
    with pytest.raises(NotInstalled, match="a trigger of public.orders is missing"):
        hub_as(orders, program, heard, install=False).start()


def test_nothing_is_asked_of_a_program_that_listens_to_what_others_installed(
    orders, owner, program, heard
):
    run_printed(orders, owner, hub_as(orders, owner, heard, service="shop"), program)

    with hub_as(orders, program, heard, install=False, service="stock"):
        insert_as(orders, owner, "tea")

        assert heard.next().key == 1
