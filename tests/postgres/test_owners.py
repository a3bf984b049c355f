"""Who owns what is ours: a stranger's is refused, what was given away is noticed and taken back."""

import logging

import pytest

from pgevents import Denied, Hub, Registry, UsageError

from ..waiting import wait_for
from .test_install_roles import hub_as, insert_as, log_size, run_printed

CAPTURE = [
    "capture_insert",
    "capture_update",
    "capture_delete",
    "capture_row",
    "capture_truncate",
    "ring",
]


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


@pytest.fixture
def mallory(orders):
    """A user who may create schemas, and wants to be more."""
    name = orders.server.create_user()
    orders.execute("GRANT CREATE ON DATABASE {} TO {}".format(orders.name, name))
    orders.execute("GRANT ALL ON orders TO {0}; GRANT USAGE ON orders_id_seq TO {0}".format(name))
    return name


def as_user(database, user, *statements):
    for statement in statements:
        database.server.execute(statement, database=database.name, user=user)


def owner_of(database, what="log"):
    kind = "pg_class WHERE relname" if what == "log" else "pg_proc WHERE proname"
    owner = "relowner" if what == "log" else "proowner"
    return database.execute("SELECT pg_get_userbyid({}) FROM {} = %s".format(owner, kind), what)[0][
        0
    ]


SQUATS = {
    "schema": ["CREATE SCHEMA pgevents"],
    "function": [
        "CREATE SCHEMA pgevents",
        "CREATE FUNCTION pgevents.ring() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN END'",
    ],
    "table": [
        "CREATE SCHEMA pgevents",
        "CREATE TABLE pgevents.watch (service text, relation text, wish text)",
        "CREATE FUNCTION pgevents.evil() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('public.calls'); RETURN NEW; END $$",
        "CREATE TRIGGER evil BEFORE INSERT ON pgevents.watch FOR EACH ROW"
        " EXECUTE FUNCTION pgevents.evil()",
    ],
}


@pytest.mark.parametrize("squat", SQUATS)
@pytest.mark.parametrize("way", ["install", "printed"])
def test_what_a_stranger_has_put_in_our_place_is_refused(orders, mallory, heard, squat, way):
    orders.execute("CREATE SEQUENCE calls; GRANT USAGE ON calls TO PUBLIC")
    as_user(orders, mallory, *SQUATS[squat])
    hub = hub_as(orders, "postgres", heard)

    with pytest.raises(Exception, match="pgevents belongs to {}".format(mallory)) as caught:
        if way == "install":
            hub.install()
        else:
            run_printed(orders, "postgres", hub, None)

    assert way == "printed" or isinstance(caught.value, Denied)
    assert orders.execute("SELECT is_called FROM calls") == [(False,)]
    assert orders.execute("SELECT count(*) FROM pg_trigger WHERE tgrelid = 'orders'::regclass") == [
        (0,)
    ]


@pytest.mark.parametrize("way", ["install", "printed"])
def test_a_table_that_a_stranger_has_put_into_our_schema_is_refused(orders, mallory, heard, way):
    orders.execute("CREATE SCHEMA pgevents; GRANT ALL ON SCHEMA pgevents TO {}".format(mallory))
    as_user(orders, mallory, "CREATE TABLE pgevents.log (seq int)")
    hub = hub_as(orders, "postgres", heard)

    with pytest.raises(Exception, match="table pgevents.log belongs to {}".format(mallory)):
        hub.install() if way == "install" else run_printed(orders, "postgres", hub, None)


def test_a_strangers_trigger_on_our_table_is_refused(orders, mallory, heard):
    hub = hub_as(orders, "postgres", heard)
    hub.install()
    orders.execute(
        "GRANT USAGE ON SCHEMA pgevents TO {0}; GRANT TRIGGER ON pgevents.log TO {0}".format(
            mallory
        )
    )
    as_user(
        orders,
        mallory,
        "CREATE SCHEMA hers",
        "CREATE FUNCTION hers.evil() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END'",
        "CREATE TRIGGER evil BEFORE INSERT ON pgevents.log FOR EACH ROW"
        " EXECUTE FUNCTION hers.evil()",
    )

    with pytest.raises(Denied, match="function hers.evil.* of the table pgevents.log .*belongs to"):
        hub.install()


#: A trigger's name and what comes after it: what it calls is of its WHEN, and does not show there.
HIDDEN = {
    "operator": "BEFORE INSERT ON pgevents.log FOR EACH ROW WHEN (NEW.topic OPERATOR(hers.@#@) 'x')"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "domain": "BEFORE INSERT ON pgevents.groups FOR EACH ROW WHEN (NEW.name::hers.checked = 'x')"
    " EXECUTE FUNCTION suppress_redundant_updates_trigger()",
    "pgevents_ring": "AFTER INSERT ON pgevents.log FOR EACH STATEMENT WHEN (1::text"
    " OPERATOR(hers.@#@) 'x') EXECUTE FUNCTION pgevents.ring('on')",
}


@pytest.mark.every_server
def test_a_trigger_on_our_tables_that_is_not_ours_is_refused_whatever_it_calls(
    orders, mallory, heard
):
    hub = hub_as(orders, "postgres", heard)
    hub.install()
    orders.execute(
        "CREATE SEQUENCE calls; GRANT USAGE ON calls TO PUBLIC;"
        " GRANT USAGE ON SCHEMA pgevents TO {0}; GRANT TRIGGER ON ALL TABLES IN SCHEMA pgevents"
        " TO {0}; GRANT EXECUTE ON FUNCTION pgevents.ring() TO {0}".format(mallory)
    )
    as_user(
        orders,
        mallory,
        "CREATE SCHEMA hers",
        "CREATE FUNCTION hers.evil(text, text) RETURNS bool LANGUAGE plpgsql AS"
        " $$ BEGIN PERFORM nextval('public.calls'); RETURN false; END $$",
        "CREATE OPERATOR hers.@#@ (leftarg = text, rightarg = text, function = hers.evil)",
        "CREATE DOMAIN hers.checked AS text CHECK (hers.evil(value, value))",
        *("CREATE OR REPLACE TRIGGER {} {}".format(*item) for item in HIDDEN.items()),
    )

    with pytest.raises(Denied) as refused:
        hub.install()
    with pytest.raises(Exception) as printed:
        run_printed(orders, "postgres", hub, None)
    with hub_as(orders, "postgres", heard, install=False) as running:
        warned = " ".join(running.status()["warnings"])

    for name, trigger in HIDDEN.items():
        told = "trigger {} on the table {} is not one of ours".format(name, trigger.split()[3])
        assert told in str(refused.value) and told in str(printed.value)
        cure = "{}: run DROP TRIGGER {} ON {}".format(told, name, trigger.split()[3])
        assert cure in warned and cure in str(refused.value) and cure in str(printed.value)
        orders.execute("DROP TRIGGER {} ON {}".format(name, trigger.split()[3]))
    assert orders.execute("SELECT is_called FROM calls") == [(False,)]
    with hub:
        insert_as(orders, mallory, "tea")
        assert heard.next().new["item"] == "tea"
        assert hub.status()["warnings"] == []


#: What an owner of our tables made of a stranger's function, and what takes it away.
CODE = {
    "rule": (
        "CREATE RULE noisy AS ON INSERT TO pgevents.watch WHERE hers.evil('a') DO ALSO NOTHING",
        "DROP RULE noisy ON pgevents.watch",
    ),
    "policy": (
        "CREATE POLICY hers ON pgevents.log USING (hers.evil(topic))",
        "DROP POLICY hers ON pgevents.log",
    ),
    "our default": (
        "ALTER TABLE pgevents.log ALTER at SET DEFAULT hers.moment()",
        "ALTER TABLE pgevents.log ALTER COLUMN at SET DEFAULT clock_timestamp()",
    ),
    "default": (
        "ALTER TABLE pgevents.log ALTER context SET DEFAULT hers.moment()::text",
        "ALTER TABLE pgevents.log ALTER COLUMN context DROP DEFAULT",
    ),
    "constraint": (
        "ALTER TABLE pgevents.log ADD CONSTRAINT hers CHECK (hers.evil(topic))",
        "ALTER TABLE pgevents.log DROP CONSTRAINT hers",
    ),
    "index": (
        "CREATE INDEX hers ON pgevents.log (hers.evil(topic))",
        "DROP INDEX pgevents.hers",
    ),
}


@pytest.fixture
def evil(orders, mallory):
    """Functions of a stranger's, which anybody may call."""
    as_user(
        orders,
        mallory,
        "CREATE SCHEMA hers",
        "GRANT USAGE ON SCHEMA hers TO PUBLIC",
        "CREATE FUNCTION hers.evil(text) RETURNS bool LANGUAGE sql IMMUTABLE AS 'SELECT true'",
        "CREATE FUNCTION hers.moment() RETURNS timestamptz LANGUAGE sql AS 'SELECT now()'",
    )


@pytest.mark.every_server
@pytest.mark.parametrize("kind", CODE)
def test_what_calls_a_strangers_function_is_named_with_the_statement_that_helps(
    orders, evil, heard, kind
):
    made, cure = CODE[kind]
    hub = hub_as(orders, "postgres", heard)
    hub.install()
    orders.execute(made)

    with hub_as(orders, "postgres", heard, install=False) as running:
        (warned,) = running.status()["warnings"]
    with pytest.raises(Denied) as refused:
        hub.install()
    with pytest.raises(Exception) as printed:
        run_printed(orders, "postgres", hub, None)
    orders.execute(cure)

    for said in (warned, str(refused.value), str(printed.value)):
        assert "run {}".format(cure) in said
    assert "pgevents install" not in warned
    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert heard.next().new["item"] == "tea"
        assert hub.status()["warnings"] == []


def test_a_view_of_our_tables_may_call_whose_functions_it_likes(orders, evil, heard):
    hub = hub_as(orders, "postgres", heard)
    hub.install()
    orders.execute("CREATE VIEW topics AS SELECT hers.evil(topic) FROM pgevents.log")

    with hub:
        assert hub.status()["warnings"] == []


def test_default_privileges_give_nobody_a_right(orders, mallory, heard):
    orders.execute(
        "ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON FUNCTIONS TO {0};"
        " ALTER DEFAULT PRIVILEGES GRANT ALL ON TABLES TO {0};"
        " ALTER DEFAULT PRIVILEGES GRANT ALL ON SCHEMAS TO {0}".format(mallory)
    )
    hub_as(orders, "postgres", heard).install()

    as_user(orders, mallory, "CREATE SCHEMA hers", "CREATE TABLE hers.mine (id int)")
    with pytest.raises(Exception, match="permission denied for function"):
        as_user(
            orders,
            mallory,
            "CREATE TRIGGER forge AFTER INSERT ON hers.mine FOR EACH ROW"
            " EXECUTE FUNCTION pgevents.capture_row('{}', '{}', 'public.orders')",
        )
    with pytest.raises(Exception, match="permission denied for table log"):
        as_user(orders, mallory, "INSERT INTO pgevents.log (topic, operation) VALUES ('x', 'y')")
    with pytest.raises(Exception, match="permission denied for schema"):
        as_user(orders, mallory, "CREATE TABLE pgevents.more ()")


def test_grants_that_came_later_are_noticed_and_revoked_and_printed_ones_stay(
    orders, mallory, registry, heard, server, caplog
):
    """As after pg_dump -x -O and a restore, which give EXECUTE to everybody."""
    program = server.create_user()
    run_printed(orders, "postgres", hub_as(orders, "postgres", heard), program)
    orders.execute(
        "GRANT SELECT, INSERT ON orders TO {}; GRANT USAGE ON orders_id_seq TO {}".format(
            program, program
        )
    )
    orders.execute(
        "GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA pgevents TO PUBLIC, {};"
        " GRANT TRIGGER ON pgevents.log TO {}".format(mallory, mallory)
    )

    with hub_as(orders, program, heard, install=False) as hub:
        warned = hub.status()["warnings"]
    hub_as(orders, "postgres", heard).install()

    assert "everybody may execute pgevents.capture_row()" in warned[0]
    assert "{} may trigger on pgevents.log".format(mallory) in warned[0]
    assert not orders.execute(
        "SELECT FROM unnest(%s) f WHERE has_function_privilege(%s, 'pgevents.' || f || '()',"
        " 'EXECUTE') OR has_table_privilege(%s, 'pgevents.log', 'TRIGGER')",
        CAPTURE,
        mallory,
        mallory,
    )
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")
    hub = hub_as(orders, program, heard, install=False, group="g")
    hub.group("g", start="backfill")
    with hub:
        wait_for(lambda: hub.status()["warnings"] == [])
        insert_as(orders, program, "milk")
        assert heard.next().new["item"] in ("tea", "milk")


def give_away(database, to, *kinds):
    for kind in kinds:
        database.execute(
            "DO $$ DECLARE t text; BEGIN FOR t IN SELECT format('%I.%I', schemaname, tablename)"
            " FROM pg_tables WHERE schemaname IN ('public', 'pgevents') LOOP EXECUTE"
            " 'ALTER TABLE ' || t || ' OWNER TO {}'; END LOOP; END $$".format(to)
        )


@pytest.fixture
def owner(server, orders):
    """A user who owns orders and may create schemas."""
    name = server.create_user()
    orders.execute("GRANT CREATE ON DATABASE {} TO {}".format(orders.name, name))
    orders.execute("ALTER TABLE orders OWNER TO {}".format(name))
    return name


def test_tables_that_were_given_to_another_owner_are_noticed(orders, owner, server, heard):
    other = server.create_user()
    hub = hub_as(orders, owner, heard)
    hub.install()

    give_away(orders, other, "tables")

    with pytest.raises(Exception, match="permission denied for table log"):
        insert_as(orders, other, "tea")
    assert [table["state"] for table in hub_as(orders, "postgres", heard).installed()] == ["denied"]
    told = "run as {0}.* belongs to {1}: each write .* fails.*GRANT".format(owner, other)
    with pytest.raises(Denied, match=told):
        hub.install()


def test_a_running_hub_says_within_seconds_that_writes_fail(orders, owner, server, heard, gaps):
    other = server.create_user()
    orders.execute("GRANT SELECT ON ALL TABLES IN SCHEMA public TO {}".format(other))
    run_printed(orders, owner, hub_as(orders, owner, heard), "postgres")

    with hub_as(orders, "postgres", heard, install=False) as hub:
        orders.execute("ALTER TABLE pgevents.log OWNER TO {}".format(other))
        wait_for(lambda: gaps, 15)
        warned = " ".join(hub.status()["warnings"])

    assert "run as {}, who may not write to pgevents.log".format(owner) in warned
    assert "each write to a captured table fails" in gaps[0]


def test_who_may_forge_events_is_said(orders, mallory, server, heard):
    program = server.create_user()
    run_printed(orders, "postgres", hub_as(orders, "postgres", heard), program)
    orders.execute("GRANT INSERT ON pgevents.log TO {}".format(mallory))

    with hub_as(orders, program, heard, install=False) as hub:
        (warned,) = hub.status()["warnings"]
        cure = "REVOKE INSERT ON pgevents.log FROM {}".format(mallory)
        orders.execute(cure)
        wait_for(lambda: hub.status()["warnings"] == [])

    assert "{} may insert on pgevents.log".format(mallory) in warned
    assert cure in warned


def test_what_was_given_away_is_named_with_the_statement_that_gives_it_back(orders, mallory, heard):
    run_printed(orders, "postgres", hub_as(orders, "postgres", heard), None)
    orders.execute(
        "ALTER TABLE pgevents.dead OWNER TO {0};"
        " ALTER FUNCTION pgevents.ring() OWNER TO {0}".format(mallory)
    )
    cures = [
        "ALTER TABLE pgevents.dead OWNER TO postgres",
        "ALTER FUNCTION pgevents.ring() OWNER TO postgres",
    ]

    warned = " ".join(warnings_of(orders, heard))
    for cure in cures:
        orders.execute(cure)

    assert [cure for cure in cures if "run " + cure not in warned] == []
    assert warnings_of(orders, heard) == []


def warnings_of(database, heard):
    """What a hub that finds all this would warn of."""
    hub = hub_as(database, "postgres", heard, install=False)
    hub._backend.look(hub._upkeep.specs.targets())
    return hub._backend.warnings.all()


def test_who_may_takes_given_tables_back(orders, owner, server, heard):
    """Or grants what is missing: the owner of before and of now are one role's members."""
    other = server.create_user()
    hub_as(orders, owner, heard).install()
    give_away(orders, other, "tables")
    admin = server.create_user()
    orders.execute("GRANT {}, {} TO {}".format(owner, other, admin))

    hub_as(orders, admin, heard).install()
    insert_as(orders, other, "tea")

    assert owner_of(orders) == owner
    assert log_size(orders) == 1


@pytest.mark.parametrize("way", ["reassign", "alter"])
def test_a_log_that_has_changed_its_owner_as_a_whole_works_on(orders, owner, server, heard, way):
    other = server.create_user()
    hub_as(orders, owner, heard).install()
    if way == "reassign":
        orders.execute("REASSIGN OWNED BY {} TO {}".format(owner, other))
    else:
        give_away(orders, other, "tables")
        orders.execute(
            "ALTER SCHEMA pgevents OWNER TO {0}; DO $$ DECLARE f text; BEGIN FOR f IN SELECT"
            " oid::regprocedure FROM pg_proc WHERE pronamespace = 'pgevents'::regnamespace LOOP"
            " EXECUTE 'ALTER FUNCTION ' || f || ' OWNER TO {0}'; END LOOP; END $$".format(other)
        )

    with hub_as(orders, other, heard) as hub:
        insert_as(orders, other, "tea")
        assert heard.next().new["item"] == "tea"
        assert hub.status()["warnings"] == []


@pytest.fixture
def runner(server):
    """The name of a role that is not there yet."""
    name = "runner_{}".format(server.create_user())
    yield name


def drop(database, *roles):
    for role in roles:
        database.execute("DROP OWNED BY {0}; DROP ROLE {0}".format(role))


@pytest.mark.parametrize("way", ["install", "printed"])
@pytest.mark.parametrize("who", ["superuser", "creator"])
def test_the_triggers_run_with_the_rights_of_a_role_that_has_no_others(
    orders, owner, heard, runner, way, who, caplog
):
    if who == "creator":
        orders.execute("ALTER ROLE {} CREATEROLE".format(owner))
    user = owner if who == "creator" else "postgres"
    hub = hub_as(orders, user, heard)
    with caplog.at_level(logging.WARNING, "pgevents"):
        if way == "install":
            hub.install(owner=runner)
        else:
            run_printed(orders, user, hub, None, owner=runner)

    with hub:
        insert_as(orders, owner, "tea")
        assert heard.next().new["item"] == "tea"
        assert hub.status()["warnings"] == []
    assert caplog.records == []
    assert owner_of(orders, "capture_insert") == runner and owner_of(orders) == user
    assert orders.execute(
        "SELECT rolsuper, rolcanlogin, has_schema_privilege(oid, 'pgevents', 'CREATE'),"
        " has_table_privilege(oid, 'pgevents.log', 'DELETE') FROM pg_roles WHERE rolname = %s",
        runner,
    ) == [(False, False, False, False)]
    # An ordinary install later leaves it so, and an upgrade, too.
    orders.execute("COMMENT ON SCHEMA pgevents IS 'pgevents 1 old'")
    hub_as(orders, user, heard, "after_delete").install()
    assert owner_of(orders, "capture_insert") == runner
    insert_as(orders, owner, "milk")
    hub_as(orders, user, heard).uninstall(everything=True)
    drop(orders, runner)


OWNERS = (
    "SELECT DISTINCT pg_get_userbyid(proowner)::text, prosecdef FROM pg_proc"
    " WHERE pronamespace = 'pgevents'::regnamespace"
)


@pytest.mark.every_server
@pytest.mark.parametrize("way", ["install", "printed"])
def test_a_role_for_the_triggers_owns_only_what_runs_with_its_rights(
    orders, owner, heard, runner, way
):
    hub = hub_as(orders, owner, heard)
    orders.execute("CREATE ROLE {0}; GRANT {0} TO {1}".format(runner, owner))
    run_printed(orders, owner, hub, "postgres", owner=runner)
    # As the releases of before had it.
    orders.execute(
        "DO $$ DECLARE f text; BEGIN FOR f IN SELECT oid::regprocedure FROM pg_proc WHERE"
        " pronamespace = 'pgevents'::regnamespace LOOP EXECUTE 'ALTER FUNCTION ' || f ||"
        " ' OWNER TO {0}'; END LOOP; END $$; COMMENT ON SCHEMA pgevents IS 'pgevents 1 old'".format(
            runner
        )
    )

    hub.install() if way == "install" else run_printed(orders, owner, hub, "postgres")

    assert sorted(orders.execute(OWNERS)) == sorted([(runner, True), (owner, False)])
    with hub:
        insert_as(orders, "postgres", "x" * 300000)
        insert_as(orders, "postgres", "tea")
        assert [event.new["item"][:3] for event in heard.take(2)] == ["xxx", "tea"]
        assert hub.status()["warnings"] == []
    hub.uninstall(everything=True)
    drop(orders, runner)


ATTRIBUTES = ["LOGIN", "SUPERUSER", "CREATEROLE", "BYPASSRLS", "REPLICATION"]


@pytest.mark.every_server
@pytest.mark.parametrize("way", ["install", "printed"])
def test_a_role_that_somebody_could_become_does_not_get_the_functions(
    orders, mallory, heard, runner, way
):
    orders.execute(
        "CREATE ROLE {0} {1}; GRANT {0} TO {2}".format(runner, " ".join(ATTRIBUTES), mallory)
    )
    hub = hub_as(orders, "postgres", heard)

    def install():
        if way == "install":
            hub.install(owner=runner)
        else:
            run_printed(orders, "postgres", hub, None, owner=runner)

    remedies = ["ALTER ROLE {} NO{}".format(runner, attribute) for attribute in ATTRIBUTES]
    for remedy in remedies + ["REVOKE {} FROM {}".format(runner, mallory)]:
        with pytest.raises(Exception, match=remedy) as refused:
            install()
        assert way == "printed" or isinstance(refused.value, Denied)
        orders.execute(remedy)
    assert orders.execute("SELECT to_regnamespace('pgevents')") == [(None,)]

    install()
    insert_as(orders, mallory, "tea")
    assert owner_of(orders, "capture_insert") == runner and log_size(orders) == 1
    hub.uninstall(everything=True)
    drop(orders, runner)


@pytest.mark.every_server
def test_a_creator_of_roles_who_made_the_role_first_does_not_get_the_functions(
    orders, owner, mallory, server, heard, runner
):
    """From PostgreSQL 16 on he is a member, who may let others be; before, all creators could."""
    orders.execute("ALTER ROLE {} CREATEROLE".format(mallory))
    as_user(orders, mallory, "CREATE ROLE {}".format(runner))
    orders.execute("GRANT {} TO {}".format(runner, owner))
    hub = hub_as(orders, owner, heard)

    if server.major is not None and server.major < 16:
        hub.install(owner=runner)
    else:
        with pytest.raises(Denied, match="{} must not be a member".format(mallory)):
            hub.install(owner=runner)

    hub.uninstall(everything=True)
    drop(orders, runner)


@pytest.mark.every_server
def test_who_may_become_the_functions_owner_later_is_said_and_refused(
    orders, owner, mallory, heard, runner
):
    hub = hub_as(orders, owner, heard)
    orders.execute("CREATE ROLE {0}; GRANT {0} TO {1}".format(runner, owner))
    hub.install(owner=runner)
    orders.execute("GRANT {} TO {}".format(runner, mallory))

    with hub_as(orders, "postgres", heard, install=False) as running:
        warned = " ".join(running.status()["warnings"])
        for again in ({}, {"owner": runner}):
            with pytest.raises(Denied, match="{} must not be a member".format(mallory)):
                hub.install(**again)

    assert "REVOKE {} FROM {}".format(runner, mallory) in warned
    assert "pgevents install" not in warned
    orders.execute("REVOKE {} FROM {}".format(runner, mallory))
    hub.install(owner=runner)
    assert owner_of(orders, "capture_insert") == runner
    hub.uninstall(everything=True)
    drop(orders, runner)


def test_what_is_lent_to_a_tables_owner_is_said(orders, owner, heard, caplog):
    with caplog.at_level(logging.WARNING, "pgevents"):
        hub_as(orders, "postgres", heard).install()
        hub_as(orders, "postgres", heard).install()

    (said,) = [record.getMessage() for record in caplog.records]
    assert "public.orders belongs to {}".format(owner) in said
    assert "rights of postgres, a superuser" in said


def test_sqlite_has_no_roles(sqlite):
    sqlite.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
    hub = Hub(sqlite.url, Registry())
    hub.watch("orders")

    with pytest.raises(UsageError, match="owner='me'"):
        hub.install(owner="me")
