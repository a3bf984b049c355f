"""Functions and operators on the search_path that look like PostgreSQL's own are never run by us.

Who may create something in a schema that others have on their search_path can put functions
there that fit better than PostgreSQL's, or come before them (CVE-2018-1058).
"""

import pytest
import sqlalchemy

from pgevents import Hub, Registry

from ..command import run
from ..waiting import wait_for

#: Ones that fit better than PostgreSQL's own, though theirs come first.
BETTER = """
CREATE FUNCTION {schema}.cat(name, name) RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_catalog.nextval('public.ran'); RETURN pg_catalog.concat($1, $2); END $$;
CREATE OPERATOR {schema}.|| (LEFTARG = name, RIGHTARG = name, FUNCTION = {schema}.cat);
CREATE FUNCTION {schema}.alike(name, name) RETURNS bool LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_catalog.nextval('public.ran'); RETURN true; END $$;
CREATE OPERATOR {schema}.~~ (LEFTARG = name, RIGHTARG = name, FUNCTION = {schema}.alike);
CREATE FUNCTION {schema}.concat(oid, text, text) RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_catalog.nextval('public.ran'); RETURN ''; END $$;
CREATE FUNCTION {schema}.make_interval(secs numeric) RETURNS interval LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_catalog.nextval('public.ran'); RETURN '1s'; END $$;
CREATE FUNCTION {schema}.get(json, json) RETURNS text LANGUAGE plpgsql AS $$
BEGIN PERFORM pg_catalog.nextval('public.ran'); RETURN ''; END $$;
CREATE OPERATOR {schema}.->> (LEFTARG = json, RIGHTARG = json, FUNCTION = {schema}.get);
"""

#: The same as PostgreSQL's own, for whoever has them first on the path.
SAME = """
DO $do$
DECLARE
    one record;
BEGIN
    FOR one IN SELECT proname, pg_get_function_identity_arguments(oid) AS arguments,
                      pg_get_function_result(oid) AS result
                 FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace AND prokind = 'f'
                  AND (proname LIKE 'pg\\_%advisory%' OR proname LIKE 'pg\\_%snapshot%' OR
                       proname = ANY (ARRAY['to_regclass', 'to_regnamespace', 'current_setting',
                       'set_config', 'version', 'current_schema', 'current_schemas',
                       'array_to_json',
                       'current_database', 'clock_timestamp', 'obj_description', 'pg_backend_pid',
                       'pg_current_xact_id', 'hashtextextended', 'pg_is_in_recovery', 'upper',
                       'lower', 'coalesce', 'date_part', 'pg_postmaster_start_time', 'to_timestamp',
                       'starts_with', 'string_to_array',
                       'row_to_json', 'pg_table_is_visible', 'pg_get_userbyid', 'encode']))
                  AND NOT proretset
                  AND pg_get_function_result(oid) NOT IN ('void', 'anyelement') LOOP
        BEGIN
        EXECUTE format('CREATE FUNCTION {schema}.%I(%s) RETURNS %s LANGUAGE plpgsql AS
                        ''BEGIN PERFORM pg_catalog.nextval(''''public.ran''''); RETURN NULL; END''',
                       one.proname, one.arguments, one.result);
        EXCEPTION WHEN feature_not_supported THEN NULL;  -- PL/pgSQL knows not every type
        END;
    END LOOP;
END
$do$;
CREATE TABLE {schema}.pg_class (oid oid, relname name, relnamespace oid, relkind "char");
"""


@pytest.fixture
def shop(postgres):
    """A database with a table of orders, and a sequence that counts what strangers' code did."""
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    postgres.execute("CREATE SEQUENCE ran")
    postgres.execute("GRANT ALL ON SEQUENCE ran TO PUBLIC")
    return postgres


def has_run(database):
    return database.execute("SELECT is_called FROM ran")[0][0]


def live(database, url, heard):
    """Do all that a hub can do, by this URL; return what a group's listener got."""

    def fail(event):
        raise ValueError("bad")

    def note(event, connection):
        heard(event)

    registry = Registry()
    for group, listener in ("stock", heard), ("mail", fail), ("backfilled", heard):
        registry.listen("orders", "after_insert", listener, group=group)
    registry.listen("orders", "after_insert", heard)
    registry.listen("orders", "after_change", note, group="ledger", transactional=True)
    hub = Hub(url, registry, retention=1)
    hub.group("mail", max_attempts=1)
    hub.group("backfilled", start="backfill")
    database.execute(hub.install(sql_only=True, role="postgres").strip())
    hub.install()
    database.execute("INSERT INTO orders (item) VALUES ('early')")
    with hub:
        database.execute("INSERT INTO orders (item) VALUES ('late')")
        database.execute("UPDATE orders SET item = 'later'")
        heard.take(6)
        wait_for(lambda: hub.group("mail").dead_letters())
        hub.group("mail").retry_dead()
        hub.group("mail").lag(), hub.group("mail").info(), hub.group("mail").served_by()
        wait_for(lambda: hub.group("backfilled").progress() is None)
        hub.group("stock").pause()
        hub.group("stock").rewind("beginning")
        hub.group("stock").resume()
        hub._backend.heal()
        hub._parts.chores.check_capture()
        hub._parts.chores.clean()
        assert hub.installed()[0]["state"] == "ok"
    for command in (
        ["status", url],
        ["sql", url, "orders"],
        ["groups", url],
        ["dead", url, "mail"],
        ["uninstall", url, "--everything", "--yes"],
    ):
        run(*command)


@pytest.mark.parametrize(
    "path, schema",
    [
        ("public", "public"),
        ("public,pg_catalog", "public"),
        ('"$user",pg_catalog,public', "postgres"),
    ],
)
def test_nothing_that_looks_like_postgresqls_own_is_run(shop, heard, path, schema):
    mallory = shop.server.create_user()
    shop.execute("CREATE SCHEMA IF NOT EXISTS {}".format(schema))
    shop.execute("GRANT ALL ON SCHEMA {} TO {}".format(schema, mallory))
    attack = SAME + BETTER if schema == path.split(",")[0] else BETTER
    attacker = shop.server.connect(shop.name, user=mallory)
    attacker.cursor().execute(attack.format(schema=schema))
    attacker.commit()
    attacker.close()

    live(shop, shop.url + "?options=-csearch_path%3D" + path.replace('"', "%22"), heard)

    assert not has_run(shop)


def test_a_transactional_listener_has_the_applications_search_path(shop, registry):
    shop.execute("CREATE SCHEMA sales")
    shop.execute("CREATE TABLE sales.invoices (order_id int)")
    shop.execute("CREATE TABLE sales.orders (id serial PRIMARY KEY)")
    paths = []

    @registry.listens_for("orders", "after_insert", group="invoicing", transactional=True)
    def invoice(event, connection):
        paths.append(connection.execute(sqlalchemy.text("SHOW search_path")).scalar())
        connection.execute(sqlalchemy.text("INSERT INTO invoices VALUES (:id)"), {"id": event.key})
        assert sqlalchemy.inspect(connection).get_table_names() == ["invoices", "orders"]
        connection.execute(sqlalchemy.text("SET search_path = elsewhere"))
        if len(paths) == 1:
            raise ValueError("once more")

    hub = Hub(shop.url + "?options=-csearch_path%3Dsales,public", registry)
    hub.group("invoicing", backoff=(0.01, 0.01))
    with hub:
        for count in 1, 2, 3:
            shop.execute("INSERT INTO sales.orders DEFAULT VALUES")
            wait_for(lambda: len(shop.execute("SELECT order_id FROM sales.invoices")) == count)
        with hub._groups.ledger().log.transaction() as connection:
            ours = connection.exec_driver_sql("SHOW search_path").scalar()

    assert paths == ["sales,public"] * 4
    assert ours == "pg_catalog, pg_temp"
