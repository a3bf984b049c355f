"""Uninstalled beside hubs that run: they leave it so, and say so, until somebody installs again."""

import threading

import pytest

from pgevents import Hub, Registry

from .. import command, processes
from ..orders import insert
from ..waiting import wait_for
from .test_install import hub_of, names, triggers


@pytest.fixture
def kept(orders):
    """A database whose log outlives the service "default": another one captures a table, too."""
    orders.execute("CREATE TABLE items (id integer PRIMARY KEY)")
    hub_of(orders, table="items", service="other").install()
    return orders


def uninstalled(hub):
    """What a hub warns of being uninstalled."""
    return [one for one in hub.status()["warnings"] if "was uninstalled" in one]


AGAIN = {
    "install": lambda database: hub_of(database).install(),
    "start": lambda database: hub_of(database).start().stop(),
    "command": lambda database: command.run("install", database.url, "orders"),
}


@pytest.mark.parametrize("again", AGAIN.values(), ids=AGAIN)
def test_a_running_hub_leaves_uninstalled_what_is_until_somebody_installs_again(
    kept, registry, heard, gaps, caplog, again
):
    registry.listen("orders", "after_insert", heard)

    with Hub(kept.url, registry) as hub:
        hub_of(kept).uninstall()
        for _ in range(3):
            hub._parts.chores.check_capture()
        insert(kept, "missed")
        between = triggers(kept), hub.installed()[0]["table"], uninstalled(hub), gaps[:]
        again(kept)
        for _ in range(3):
            hub._parts.chores.check_capture()
        insert(kept, "tea")
        item = heard.next().new["item"]
        after = uninstalled(hub)

    captured, left, (warning,), (gap,) = between
    assert (captured, left.endswith("items")) == (set(), True)
    assert "orders uncaptured until somebody installs again" in warning
    assert caplog.text.count(warning) == 1
    assert "orders is not captured" in gap
    assert (item, after) == ("tea", [])
    assert len(gaps) == 2 and "captured again" in gaps[1]


def test_a_running_hub_of_another_process_leaves_uninstalled_what_is(orders):
    context = processes.context()
    stop, said = context.Event(), context.Queue()
    process = context.Process(target=serve, args=(orders.url, stop, said))
    process.start()
    try:
        assert said.get(timeout=60) == "started"
        command.run("uninstall", orders.url, "--yes")
        warning = said.get(timeout=60)
        between = triggers(orders)
        hub_of(orders).install()
        insert(orders, "tea")
        item = said.get(timeout=60)
    finally:
        stop.set()
        process.join(20)

    assert "the service 'default' was uninstalled" in warning
    assert between == set()
    assert item == "tea"
    assert process.exitcode == 0


def serve(url, stop, said):
    """The other process: listen in a group, for which the log stays; say what it is warned of."""
    registry = Registry()
    registry.listen("orders", "after_insert", lambda e: said.put(e.new["item"]), group="mailer")
    with Hub(url, registry, retention=1) as hub:
        said.put("started")
        wait_for(lambda: uninstalled(hub), timeout=60)
        said.put(uninstalled(hub)[0])
        stop.wait(60)


@pytest.mark.parametrize("lost", [False, True], ids=["captured", "lost"])
def test_an_uninstall_is_not_undone_by_a_check_that_is_under_way(
    kept, registry, heard, monkeypatch, lost
):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(kept.url, registry)
    hub.install()
    hub._upkeep.begin()
    on = "" if kept.kind == "sqlite" else " ON orders"
    name = "pgevents_insert_orders" if kept.kind == "sqlite" else "pgevents_insert"
    kept.execute("DROP TRIGGER {}{}".format(name, on))
    install, installs = hub._backend.install, []

    def too_late(*arguments, **options):
        installs.append(arguments)
        if lost:
            hub_of(kept).uninstall()
        return install(*arguments, **options)

    monkeypatch.setattr(hub._backend, "install", too_late)
    hub._upkeep.check()
    first = triggers(kept)
    hub._upkeep.check()

    assert len(installs) == 1
    assert first == triggers(kept) == (set() if lost else {"insert"})
    assert bool(uninstalled(hub)) is lost


def test_an_uninstall_is_not_undone_by_checks_that_run_all_the_time(kept, registry, heard):
    registry.listen("orders", "after_change", heard)
    over = threading.Event()

    def look():
        while not over.is_set():
            hub._parts.chores.check_capture()

    with Hub(kept.url, registry) as hub:
        looks = threading.Thread(target=look)
        looks.start()
        try:
            found = []
            for _ in range(10):
                hub_of(kept, "after_change").install()
                hub_of(kept).uninstall()
                found.append(triggers(kept))
        finally:
            over.set()
            looks.join()
        hub._parts.chores.check_capture()

        assert found == [set()] * 10
        assert triggers(kept) == set()


def test_what_another_service_wants_is_mended_though_this_one_was_uninstalled(
    kept, registry, heard
):
    registry.listen("orders", "after_insert", heard)
    hub_of(kept, service="third").install()

    with Hub(kept.url, registry) as hub:
        hub_of(kept).uninstall()
        on = "" if kept.kind == "sqlite" else " ON orders"
        name = "pgevents_insert_orders" if kept.kind == "sqlite" else "pgevents_insert"
        kept.execute("DROP TRIGGER {}{}".format(name, on))
        hub._parts.chores.check_capture()
        insert(kept, "tea")
        item = heard.next().new["item"]
        warned, services = uninstalled(hub), [table["services"] for table in hub.installed()]
        hub_of(kept, service="third").uninstall()
        hub._parts.chores.check_capture()
        left = triggers(kept)

    assert (item, warned, services) == ("tea", [], [["other"], ["third"]])
    assert left == set()


def test_a_table_that_is_made_anew_stays_uninstalled(kept, registry, heard):
    registry.listen("orders", "after_insert", heard)

    with Hub(kept.url, registry) as hub:
        hub_of(kept).uninstall()
        kept.execute("DROP TABLE orders")
        hub_of(kept, table="items", service="third").install()  # forgets tables that are gone
        kept.execute("CREATE TABLE orders (id integer PRIMARY KEY)")
        hub._parts.chores.check_capture()

        assert triggers(kept) == set()
        assert uninstalled(hub)


def test_a_listener_that_comes_while_the_hub_runs_installs_again(kept, registry, heard):
    registry.listen("orders", "after_insert", print)

    with Hub(kept.url, registry) as hub:
        hub_of(kept).uninstall()
        hub._parts.chores.check_capture()
        hub.listen("orders", "after_insert", heard)
        insert(kept, "tea")
        item = heard.next().new["item"]
        hub._parts.chores.check_capture()
        warned = uninstalled(hub)

    assert (item, warned) == ("tea", [])


def test_a_hub_that_may_not_install_tells_of_an_uninstall_too(kept, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    Hub(kept.url, registry).install()

    with Hub(kept.url, registry, install=False) as hub:
        hub_of(kept).uninstall()
        for _ in range(3):
            hub._parts.chores.check_capture()
        (warning,) = hub.status()["warnings"]

    assert "was uninstalled" in warning
    assert len(gaps) == 1


def test_a_service_that_was_uninstalled_keeps_no_log(kept, registry):
    registry.listen("orders", "after_insert", print)
    with Hub(kept.url, registry):
        hub_of(kept).uninstall()
    between = names(kept)

    hub_of(kept, service="other").uninstall()

    assert between
    assert names(kept) == []
