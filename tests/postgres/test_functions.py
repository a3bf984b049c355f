"""Our functions in the database: what somebody has changed of them is noticed and put back."""

import pytest

from pgevents import Denied, Hub, NotInstalled
from pgevents.postgres.capture import Capture
from pgevents.postgres.rights import HELPERS, PUBLISHING, TRIGGERS
from pgevents.tables import Tables

from ..waiting import wait_for
from .test_install_roles import hub_as, insert_as, log_size, run_printed

pytestmark = pytest.mark.every_server

#: What somebody did, and what is said of it.
CHANGES = {
    "body": (
        "CREATE OR REPLACE FUNCTION pgevents.capture_insert() RETURNS trigger LANGUAGE plpgsql"
        " SECURITY DEFINER SET search_path = pg_catalog, pg_temp SET timezone = 'UTC'"
        " SET datestyle = 'ISO, YMD' SET intervalstyle = 'postgres' SET extra_float_digits = 1"
        " SET bytea_output = 'hex' SET lc_monetary = 'C'"
        " SET plan_cache_mode = 'force_generic_plan' AS 'BEGIN RETURN NULL; END'",
        "the function pgevents.capture_insert() is not as this release makes it: body",
    ),
    "invoker": (
        "ALTER FUNCTION pgevents.capture_insert() SECURITY INVOKER",
        "the function pgevents.capture_insert() is not as this release makes it: SECURITY",
    ),
    "path": (
        "ALTER FUNCTION pgevents.capture_update() SET search_path = public",
        "the function pgevents.capture_update() is not as this release makes it: settings",
    ),
    "no path": (
        "ALTER FUNCTION pgevents.careful(record) RESET ALL",
        "the function pgevents.careful(given record) is not as this release makes it: settings",
    ),
    "more settings": (
        "ALTER FUNCTION pgevents.capture_delete() SET session_replication_role = 'replica'",
        "the function pgevents.capture_delete() is not as this release makes it: settings",
    ),
    "volatility": (
        "ALTER FUNCTION pgevents.columns(oid, json, json) IMMUTABLE",
        "columns(relation oid, wish json, types json) is not as this release makes it: volatility",
    ),
    "strict": (
        "ALTER FUNCTION pgevents.row_sql(oid, json, json) STRICT",
        "row_sql(relation oid, wish json, types json) is not as this release makes it: kind",
    ),
    "language": (
        "CREATE OR REPLACE FUNCTION pgevents.cut(context text) RETURNS text LANGUAGE sql AS"
        " 'SELECT context'",
        "cut(context text) is not as this release makes it: language, volatility, settings, body",
    ),
    "gone": (
        "DROP FUNCTION pgevents.small_sql(oid, json, json)",
        "small_sql(relation oid, wish json, types json) is not there",
    ),
}


def test_the_rights_name_each_function_once():
    functions = Capture(Tables("postgresql"))._functions

    assert sorted(set(functions.names)) == sorted(TRIGGERS + HELPERS + PUBLISHING)


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


@pytest.fixture
def writer(orders):
    """A user who may write to orders, and nothing else."""
    name = orders.server.create_user()
    orders.execute("GRANT ALL ON orders TO {0}; GRANT USAGE ON orders_id_seq TO {0}".format(name))
    return name


def states(hub):
    return [table["state"] for table in hub.installed()]


@pytest.mark.parametrize("change", CHANGES)
def test_a_function_that_somebody_changed_is_named_and_put_back(orders, writer, heard, change):
    statement, sentence = CHANGES[change]
    hub = hub_as(orders, "postgres", heard)
    hub.install()
    orders.execute(statement)

    before = states(hub)
    with pytest.raises(NotInstalled) as refused:
        hub_as(orders, "postgres", heard, install=False).start()
    hub.install()

    assert before == ["outdated"]
    assert sentence in str(refused.value)
    assert states(hub) == ["ok"]
    insert_as(orders, writer, "tea")
    assert log_size(orders) == 1


def test_a_function_that_was_given_to_another_superuser_is_taken_back(orders, heard):
    hub = hub_as(orders, "postgres", heard)
    hub.install()
    other = orders.server.create_user()
    orders.execute(
        "ALTER ROLE {0} SUPERUSER; ALTER FUNCTION pgevents.capture_row() OWNER TO {0}".format(other)
    )

    before = states(hub)
    with pytest.raises(NotInstalled, match="capture_row.* belongs to {}".format(other)):
        hub_as(orders, "postgres", heard, install=False).start()
    hub.install()
    orders.execute("DROP ROLE {}".format(other))

    assert (before, states(hub)) == (["outdated"], ["ok"])


def test_functions_that_nobody_changed_are_let_be(orders, heard):
    hub = hub_as(orders, "postgres", heard)
    run_printed(orders, "postgres", hub, None)
    functions = "SELECT oid, xmin::text FROM pg_proc WHERE pronamespace = 'pgevents'::regnamespace"
    before = orders.execute(functions)

    hub.install()

    assert states(hub) == ["ok"]
    assert sorted(orders.execute(functions)) == sorted(before)


def test_a_running_hub_puts_a_changed_function_back_and_says_what_was_missed(
    orders, writer, heard, gaps
):
    with hub_as(orders, "postgres", heard) as hub:
        orders.execute(CHANGES["body"][0])
        wait_for(lambda: gaps, 15)
        wait_for(lambda: states(hub) == ["ok"])
        insert_as(orders, writer, "tea")

        assert heard.next().new["item"] == "tea"
    assert CHANGES["body"][1] in gaps[0]


def test_a_running_hub_that_may_not_install_warns_of_a_changed_function(orders, heard, gaps):
    program = orders.server.create_user()
    run_printed(orders, "postgres", hub_as(orders, "postgres", heard), program)

    with hub_as(orders, program, heard, install=False) as hub:
        orders.execute(CHANGES["invoker"][0])
        wait_for(lambda: gaps, 15)
        warned = " ".join(wait_for(lambda: hub.status()["warnings"]))

    assert CHANGES["invoker"][1] in warned


def test_functions_of_a_newer_release_are_let_be(orders, heard):
    hub = hub_as(orders, "postgres", heard)
    hub.install()
    orders.execute("ALTER FUNCTION pgevents.cut(text) IMMUTABLE")
    orders.execute("COMMENT ON SCHEMA pgevents IS 'pgevents 9999 newer'")

    hub.install()

    assert states(hub) == ["ok"]
    assert orders.execute("SELECT provolatile FROM pg_proc WHERE proname = 'cut'") == [("i",)]


def test_who_may_not_replace_a_changed_function_is_denied(orders, heard):
    program = orders.server.create_user()
    run_printed(orders, "postgres", hub_as(orders, "postgres", heard), program)
    orders.execute(CHANGES["body"][0])

    with pytest.raises(Denied, match="the log pgevents belongs to postgres"):
        hub_as(orders, program, heard).start()


def test_a_log_in_another_schema_has_functions_of_its_own(orders, heard):
    registry = hub_as(orders, "postgres", heard).registry
    shop, stock = (Hub(orders.url, registry, schema) for schema in ("shop", "stock"))
    shop.install()
    stock.install()

    orders.execute("ALTER FUNCTION shop.cut(text) IMMUTABLE")

    assert (states(shop), states(stock)) == (["outdated"], ["ok"])
