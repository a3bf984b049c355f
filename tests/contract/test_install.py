"""Installing: what is captured, for whom, and how it goes away again."""

import pytest

from pgevents import Hub, Registry, UsageError
from pgevents.capture import chores

from ..waiting import wait_for


def hub_of(database, *moments, table="orders", **options):
    """A hub that listens to a table, not started."""
    registry = Registry()
    registry.listen(table, moments or ("after_insert",), print)
    return Hub(database.url, registry, **options)


def objects(database):
    """All that is in the database, so that each change shows."""
    if database.kind == "sqlite":
        version = database.execute("PRAGMA schema_version")
        return version + database.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name")
    catalogs = ("pg_class", "pg_trigger", "pg_proc", "pg_namespace", "pg_constraint")
    found = [
        row
        for catalog in catalogs
        for row in database.execute(
            "SELECT oid, xmin::text FROM {} WHERE oid >= 16384 ORDER BY oid".format(catalog)
        )
    ]
    return found + database.execute(
        "SELECT objoid, xmin::text, description FROM pg_description WHERE objoid >= 16384"
        " ORDER BY objoid"
    )


def names(database):
    """What is in the database, but for the application's tables."""
    if database.kind == "sqlite":
        sql = (
            "SELECT name FROM sqlite_master WHERE name LIKE '%pgevents%'"
            " OR sql LIKE '%pgevents%'"
        )
    else:
        sql = (
            "SELECT nspname FROM pg_namespace WHERE nspname = 'pgevents' UNION ALL"
            " SELECT tgname FROM pg_trigger WHERE tgname LIKE '%pgevents%' UNION ALL"
            " SELECT proname FROM pg_proc WHERE pronamespace = to_regnamespace('pgevents')"
        )
    return [row[0] for row in database.execute(sql)]


def triggers(database, table="orders"):
    """The operations for which a table has triggers of ours."""
    if database.kind == "sqlite":
        sql = "SELECT name FROM sqlite_master WHERE type = 'trigger' AND tbl_name = %s"
    else:
        sql = (
            "SELECT tgname FROM pg_trigger JOIN pg_class c ON c.oid = tgrelid"
            " WHERE NOT tgisinternal AND relname = %s"
        )
    found = [row[0] for row in database.execute(sql, table)]
    operations = ("insert", "update", "delete", "truncate")
    return {o for o in operations for name in found if "_" + o in name}


def topic(database, table="orders"):
    return ("main." if database.kind == "sqlite" else "public.") + table


def test_a_second_install_changes_nothing(orders):
    hub_of(orders, "after_change").install()
    before = objects(orders)

    hub_of(orders, "after_change").install()
    hub_of(orders, "after_insert").install()

    assert objects(orders) == before


def test_only_what_is_listened_to_gets_triggers(orders):
    hub_of(orders, "after_insert", "after_delete").install()

    assert triggers(orders) == {"insert", "delete"}


def test_two_services_get_the_union_and_one_may_leave(orders, heard):
    shop = hub_of(orders, "after_insert", service="shop")
    shop.watch("orders", "after_insert", include=["id", "item"])
    shop.install()
    stock = Hub(orders.url, Registry(), service="stock")
    stock.registry.listen("orders", "after_update", heard)
    stock.watch("orders", "after_update", include=["id", "status"])
    stock.install()
    both, state = triggers(orders), stock.installed()[0]

    with stock:
        Hub(orders.url, Registry(), service="shop").uninstall()
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        orders.execute("UPDATE orders SET status = 'paid'")
        event = heard.next()

    assert both == {"insert", "update"}
    assert (state["services"], state["include"]) == (["shop", "stock"], ["id", "item", "status"])
    assert event.new == {"id": 1, "status": "paid"}
    assert triggers(orders) == {"update"}


def test_the_last_service_that_leaves_takes_everything_along(orders):
    hub_of(orders, service="shop").install()
    hub_of(orders, "after_update", service="stock").install()

    hub_of(orders, service="shop").uninstall()
    between = names(orders)
    hub_of(orders, service="stock").uninstall()

    assert between
    assert names(orders) == []


def test_everything_goes_even_what_others_want_and_tables_that_are_gone(orders):
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")
    hub_of(orders, service="shop").install()
    hub_of(orders, table="items", service="stock").install()
    orders.execute("DROP TABLE items")

    hub_of(orders, service="shop").uninstall(everything=True)

    assert names(orders) == []


def test_what_groups_have_is_kept_when_the_last_service_leaves(orders, heard):
    def handle(event):
        if event.new["item"] == "poison":
            raise ValueError("poison")
        heard(event)

    registry = Registry()
    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=1)
    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('poison')")
        wait_for(group.dead_letters)
    orders.execute("INSERT INTO orders (item) VALUES ('waiting')")

    hub.uninstall()
    between = triggers(orders), hub.installed(), group.lag()[0]
    orders.execute("ALTER TABLE orders DROP COLUMN status")
    hub.install()
    orders.execute("INSERT INTO orders (item) VALUES ('later')")
    with hub:
        items = [event.new["item"] for event in heard.take(2)]

    assert between == (set(), [], 1)
    assert items == ["waiting", "later"]
    assert len(group.dead_letters()) == 1


def test_everything_takes_the_groups_along_and_so_does_the_last_service_without_any(orders, heard):
    registry = Registry()
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry)
    with hub:
        pass
    hub.uninstall()
    kept = names(orders)

    hub.uninstall(everything=True)
    gone = names(orders)
    with hub:
        pass
    hub.group("mailer").drop()
    hub.uninstall()

    assert kept
    assert gone == names(orders) == []


def test_uninstalling_where_nothing_is_installed_does_nothing(orders):
    before = objects(orders)

    hub_of(orders).uninstall()

    assert objects(orders) == before
    assert hub_of(orders).installed() == []


def test_what_is_installed_is_told_with_its_state(orders):
    orders.execute("CREATE TABLE items (id int PRIMARY KEY, price int)")
    hub = hub_of(orders, "after_change")
    hub.watch("items", "after_insert", exclude=["price"], old=False)
    hub.install()
    ok = hub.installed()
    orders.execute("DROP TABLE items")
    tamper(orders)

    states = {table["table"]: table["state"] for table in hub.installed()}

    assert ok[0] == {
        "table": topic(orders, "items"),
        "operations": ["insert"],
        "include": None,
        "exclude": ["price"],
        "old": False,
        "services": ["default"],
        "state": "ok",
    }
    assert ok[1]["operations"] == ["insert", "update", "delete"]
    assert states == {topic(orders): "outdated", topic(orders, "items"): "gone"}


def test_what_is_installed_is_told_by_a_name_that_can_be_given_again(database):
    database.execute('CREATE TABLE "order.items ""old""" (id int PRIMARY KEY)')
    hub_of(database, "after_insert", table='"order.items ""old"""').install()

    (told,) = hub_of(database, table="orders").installed()
    again = Hub(database.url, Registry())
    again.watch(told["table"], "after_delete")
    again.install()

    assert told["table"] == topic(database, '"order.items ""old"""')
    assert again.installed()[0]["operations"] == ["insert", "delete"]


def tamper(database):
    """Make the trigger of the inserts look like an older one."""
    if database.kind == "sqlite":
        sql = database.execute("SELECT sql FROM sqlite_master WHERE name LIKE '%_insert_orders'")
        database.execute("DROP TRIGGER pgevents_insert_orders")
        database.execute(sql[0][0].replace("INSERT INTO", "INSERT  INTO"))
    else:
        database.execute("COMMENT ON TRIGGER pgevents_insert ON orders IS 'pgevents older'")


def test_what_is_outdated_is_replaced(orders, heard):
    hub = Hub(orders.url, Registry())
    hub.listen("orders", "after_insert", heard)
    hub.install()
    tamper(orders)

    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()

    assert hub.installed()[0]["state"] == "ok"


def test_a_trigger_that_was_dropped_comes_back(orders):
    hub_of(orders, "after_insert", "after_delete").install()
    on = "" if orders.kind == "sqlite" else " ON orders"
    name = "pgevents_delete_orders" if orders.kind == "sqlite" else "pgevents_delete"
    orders.execute("DROP TRIGGER {}{}".format(name, on))

    hub_of(orders).install()

    assert triggers(orders) == {"insert", "delete"}


@pytest.mark.parametrize("change", ["DROP TABLE orders", "ALTER TABLE orders RENAME TO old"])
def test_a_table_that_was_dropped_or_renamed_is_forgotten_at_the_next_install(orders, change):
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")
    hub_of(orders, "after_change").install()
    orders.execute(change)

    hub = hub_of(orders, table="items")
    hub.install()

    assert [table["table"] for table in hub.installed()] == [topic(orders, "items")]
    assert triggers(orders, "old") == set()


def test_a_table_made_in_the_place_of_a_renamed_one_is_captured(orders, heard):
    registry = Registry()
    registry.listen("orders", "after_insert", heard)
    Hub(orders.url, registry).install()
    orders.execute("ALTER TABLE orders RENAME TO old")
    orders.execute("CREATE TABLE orders (id int PRIMARY KEY, item text)")

    with Hub(orders.url, registry):
        orders.execute("INSERT INTO old (item) VALUES ('milk')")
        orders.execute("INSERT INTO orders VALUES (7, 'tea')")

        assert heard.next().new == {"id": 7, "item": "tea"}


def test_two_logs_beside_each_other_do_not_meet(orders):
    heard_by = {"a": [], "b": []}
    hubs = {}
    for schema, moment in (("a", "after_insert"), ("b", "after_update")):
        registry = Registry()
        registry.listen("orders", moment, heard_by[schema].append)
        hubs[schema] = Hub(orders.url, registry, schema=schema)

    with hubs["a"], hubs["b"]:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        orders.execute("UPDATE orders SET item = 'mate'")
        assert hubs["a"].drain() and hubs["b"].drain()
    hubs["a"].uninstall()

    assert [event.moment for event in heard_by["a"]] == ["after_insert"]
    assert [event.moment for event in heard_by["b"]] == ["after_update"]
    assert triggers(orders) == {"update"}
    assert hubs["b"].installed()[0]["state"] == "ok"


def test_a_table_made_anew_while_the_hub_runs_gets_its_triggers_back(orders, heard, gaps):
    create = {
        "sqlite": "CREATE TABLE orders (id INTEGER PRIMARY KEY, item text)",
        "postgresql": "CREATE TABLE orders (id serial PRIMARY KEY, item text)",
    }
    registry = Registry()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry, retention=1):
        orders.execute("DROP TABLE orders")
        orders.execute(create[orders.kind])
        wait_for(lambda: triggers(orders))
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next()

    assert event.new["item"] == "tea"
    assert "orders" in gaps[0]  # gone first, or without its triggers


def test_a_listener_whose_column_is_gone_keeps_no_other_table_from_getting_its_triggers_back(
    orders, heard, gaps, caplog
):
    orders.execute("CREATE TABLE tea (id integer PRIMARY KEY)")
    registry = Registry()
    registry.listen("orders", "after_update", print, columns=["status"])
    registry.listen("tea", "after_insert", heard)

    with Hub(orders.url, registry, retention=1):
        orders.execute("ALTER TABLE orders RENAME COLUMN status TO state")
        wait_for(lambda: "print asks for" in caplog.text)
        orders.execute("DROP TABLE tea")
        orders.execute("CREATE TABLE tea (id integer PRIMARY KEY)")
        wait_for(lambda: triggers(orders, "tea"))
        orders.execute("INSERT INTO tea VALUES (1)")

        assert heard.next().key == 1
    assert any("tea" in gap for gap in gaps)
    assert caplog.text.count("status, which is no column") == 1


ANEW = {
    "made anew": ["DROP TABLE orders", "CREATE TABLE orders (id int PRIMARY KEY, item text)"],
    "swapped": [
        "CREATE TABLE young (id int PRIMARY KEY, item text)",
        "ALTER TABLE orders RENAME TO old",
        "ALTER TABLE young RENAME TO orders",
    ],
}


@pytest.mark.parametrize("change", ANEW.values(), ids=ANEW)
def test_a_running_hub_does_not_wait_for_its_housekeeping_to_notice(
    orders, heard, gaps, change, attentive
):
    registry = Registry()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        for statement in change:
            orders.execute(statement)
        wait_for(lambda: gaps, timeout=chores.HOUSEKEEPING / 3)
        wait_for(lambda: [table["state"] for table in hub.installed()] == ["ok"])
        orders.execute("INSERT INTO orders VALUES (7, 'tea')")

        assert heard.next().key == 7
        assert triggers(orders, "old") == set()


def test_a_table_that_somebody_forgot_before_it_was_made_anew_is_noticed(
    orders, heard, gaps, attentive
):
    registry = Registry()
    registry.listen("orders", "after_insert", heard)
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")

    with Hub(orders.url, registry):
        orders.execute("DROP TABLE orders")
        wait_for(lambda: gaps, timeout=chores.HOUSEKEEPING / 3)
        hub_of(orders, table="items").install()
        orders.execute("CREATE TABLE orders (id int PRIMARY KEY)")
        wait_for(lambda: triggers(orders), timeout=chores.HOUSEKEEPING / 3)
        orders.execute("INSERT INTO orders VALUES (7)")

        assert heard.next().key == 7


def test_a_listener_that_comes_while_the_hub_runs_has_its_table_installed(orders, heard):
    orders.execute("CREATE TABLE items (id int PRIMARY KEY)")

    with hub_of(orders) as hub:
        hub.listen("items", "after_insert", heard)
        orders.execute("INSERT INTO items VALUES (7)")

        assert heard.next().key == 7


def test_a_registration_that_fails_leaves_nothing_registered(orders, heard):
    with hub_of(orders) as hub:
        with pytest.raises(UsageError, match="no table 'ordres'"):
            hub.listen("ordres", "after_insert", heard)
        with pytest.raises(UsageError, match="stauts"):
            hub.listen("orders", "after_update", heard, columns=["stauts"])

        assert not hub.contains("ordres", "after_insert", heard)
        assert not hub.contains("orders", "after_update", heard)
        assert triggers(orders) == {"insert"}


def test_a_hub_tells_and_recovers_when_somebody_uninstalled_under_it(
    orders, heard, gaps, attentive
):
    registry = Registry()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        hub_of(orders).uninstall(everything=True)
        hub._life.housekeeper.wake()
        wait_for(lambda: gaps)
        wait_for(lambda: [table["state"] for table in hub.installed()] == ["ok"])
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")

        assert heard.next().new["item"] == "tea"


@pytest.mark.parametrize("again", [False, True], ids=["gone", "made anew"])
def test_a_hub_whose_reader_finds_the_log_gone_tells_and_recovers(orders, heard, gaps, again):
    registry = Registry()
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        for _ in range(3):
            orders.execute("INSERT INTO orders (item) VALUES ('before')")
        heard.take(3)
        hub_of(orders).uninstall(everything=True)
        orders.execute("INSERT INTO orders (item) VALUES ('lost')")
        if again:
            hub_of(orders).install()
        hub._life.source.wake()
        wait_for(lambda: gaps)
        wait_for(lambda: [table["state"] for table in hub.installed()] == ["ok"])
        hub.wait_ready()
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")

        assert heard.next().new["item"] == "tea"


def test_a_table_that_is_made_anew_while_another_gets_its_triggers_back_is_a_gap_too(
    database, registry, gaps, monkeypatch
):
    def make(table):
        database.execute("DROP TABLE IF EXISTS {}".format(table))
        database.execute("CREATE TABLE {} (id integer PRIMARY KEY)".format(table))

    for table in ("first", "second"):
        make(table)
        registry.listen(table, "after_insert", print)
    hub = Hub(database.url, registry)
    hub._upkeep.begin()
    look, looks = hub._backend.look, []

    def then_another(*given, **more):
        looks.append(look(*given, **more))
        if len(looks) == 1:
            make("second")
        return looks[-1]

    monkeypatch.setattr(hub._backend, "look", then_another)
    make("first")
    hub._upkeep.check()
    hub._upkeep.check()

    assert any("first" in reason for reason in gaps)
    assert any("second" in reason for reason in gaps)
    assert [table["state"] for table in hub.installed()] == ["ok", "ok"]
