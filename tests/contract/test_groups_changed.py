"""Listeners of a group come and go while it works: one thread here has its events, or none."""

import threading

import pytest

from pgevents import Hub
from pgevents.errors import Unavailable
from pgevents.groups.group_rows import GroupRows

from ..orders import insert
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds
LEASE = 300  # seconds; longer than any test


def due(database):
    table = "pgevents_leases" if database.kind == "sqlite" else "pgevents.leases"
    return [row[0] for row in database.execute("SELECT due FROM {}".format(table))][0]


def group_threads():
    return [one for one in threading.enumerate() if one.name.startswith("pgevents-group")]


def on_define(monkeypatch, before=None, after=None):
    """Call these around each definition of a group."""
    real = GroupRows.define

    def define(*args, **options):
        if before is not None:
            before()
        real(*args, **options)
        if after is not None:
            after()

    monkeypatch.setattr(GroupRows, "define", define)


def unavailable_once():
    errors = [Unavailable("the database is away")]

    def fail():
        if errors:
            raise errors.pop()

    return fail


def in_thread(fn, *args, **options):
    thread = threading.Thread(target=fn, args=args, kwargs=options)
    thread.start()
    return thread


def test_two_threads_that_listen_in_a_group_at_once_start_one_thread_for_it(
    orders, registry, heard, monkeypatch
):
    both = threading.Barrier(2)

    def meet():
        try:
            both.wait(1)
        except threading.BrokenBarrierError:
            pass  # the other one waits for us

    with Hub(orders.url, registry) as hub:
        hub.install()
        on_define(monkeypatch, before=meet)
        threads = [
            in_thread(registry.listen, "orders", moment, heard, group="mailer")
            for moment in ("after_insert", "after_delete")
        ]
        for thread in threads:
            thread.join(TIMEOUT)
        insert(orders, "a")
        orders.execute("DELETE FROM orders")
        assert hub.drain(TIMEOUT)
        wait_for(lambda: len(group_threads()) == 1)

    assert [event.operation for event in heard.rest()] == ["insert", "delete"]
    assert group_threads() == []


def test_no_thread_of_a_group_begins_after_stop(orders, registry, heard, monkeypatch):
    defined, go_on = threading.Event(), threading.Event()

    def wait():
        defined.set()
        assert go_on.wait(TIMEOUT)

    on_define(monkeypatch, after=wait)
    with Hub(orders.url, registry) as hub:
        listening = in_thread(registry.listen, "orders", "after_insert", heard, group="mailer")
        assert defined.wait(TIMEOUT)
        hub.stop()
        go_on.set()
        listening.join(TIMEOUT)

        assert group_threads() == []
        assert "pgevents-renewer" not in [one.name for one in threading.enumerate()]
        with hub:  # which may be started again
            insert(orders, "a")
            assert heard.next(TIMEOUT).new["item"] == "a"


def test_no_thread_of_a_group_begins_after_a_start_that_failed(
    orders, registry, heard, monkeypatch
):
    go_on = threading.Event()
    on_define(monkeypatch, after=lambda: go_on.wait(TIMEOUT))
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry)
    hub.install()

    with pytest.raises(Unavailable):
        hub.start(timeout=0.2)
    go_on.set()
    wait_for(
        lambda: not [one for one in threading.enumerate() if one.name.startswith("pgevents-source")]
    )

    assert group_threads() == []
    assert hub.status()["state"] == "stopped"


@pytest.mark.parametrize("committed", [False, True], ids=["refused", "answer lost"])
def test_a_listen_that_fails_leaves_the_group_as_it_was_and_may_be_called_again(
    orders, registry, heard, monkeypatch, committed
):
    monkeypatch.setattr("pgevents.groups.succession.SUCCESSION", 0.5)
    deleted = []
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub:
        fail = unavailable_once()
        on_define(monkeypatch, **{"after" if committed else "before": fail})
        with pytest.raises(Unavailable):
            registry.listen("orders", "after_delete", deleted.append, group="mailer")
        assert not registry.contains("orders", "after_delete", deleted.append)
        insert(orders, "a")
        assert heard.next(TIMEOUT).new["item"] == "a"

        registry.listen("orders", "after_delete", deleted.append, group="mailer")
        orders.execute("DELETE FROM orders")
        assert hub.drain(TIMEOUT)

    assert len(deleted) == 1


def test_a_listen_that_fails_in_one_hub_is_undone_in_the_others(
    orders, registry, heard, monkeypatch
):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry) as hub, Hub(orders.url, registry):
        errors = [None, Unavailable("the database is away")]

        def fail_second():
            error = errors.pop(0) if errors else None
            if error is not None:
                raise error

        on_define(monkeypatch, before=fail_second)
        with pytest.raises(Unavailable):
            registry.listen("orders", "after_delete", heard, group="mailer")
        assert errors == []
        insert(orders, "a")
        orders.execute("DELETE FROM orders")
        assert heard.next(TIMEOUT).new["item"] == "a"
        assert hub.drain(TIMEOUT)

        assert list(hub.group("mailer").info()["topics"].values()) == [["insert"]]

    assert heard.rest() == []


def test_a_group_goes_on_after_a_remove_whose_definition_failed(
    orders, registry, heard, monkeypatch
):
    def other(event):
        raise AssertionError("nobody listens to it any more")

    registry.listen("orders", "after_insert", heard, group="mailer")
    registry.listen("orders", "after_delete", other, group="mailer")
    with Hub(orders.url, registry) as hub:
        on_define(monkeypatch, before=unavailable_once())
        registry.remove("orders", "after_delete", other)
        insert(orders, "a")
        assert heard.next(TIMEOUT).new["item"] == "a"
        orders.execute("DELETE FROM orders")
        assert hub.drain(TIMEOUT)

        assert list(hub.group("mailer").info()["topics"].values()) == [["insert"]]
        assert hub.status()["groups"]["mailer"]["error"] is None


def test_a_listener_slower_than_its_lease_runs_alone_when_the_group_changes_meanwhile(
    orders, registry
):
    began, go_on = threading.Event(), threading.Event()
    calls = []

    def slow(event):
        calls.append(event.new["item"])
        began.set()
        assert go_on.wait(TIMEOUT)

    registry.listen("orders", "after_insert", slow, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", lease=1)
    with hub:
        hub.group("mailer").pause()
        insert(orders, "a", "b")
        hub.group("mailer").resume()
        assert began.wait(TIMEOUT)
        first = due(orders)
        for moment in ("after_delete", "after_update"):
            registry.listen("orders", moment, print, group="mailer")
        wait_for(lambda: due(orders) > first + 2)  # it was renewed
        assert "still runs" in hub.status()["groups"]["mailer"]["standing_by"]
        assert calls == ["a"]

        go_on.set()
        assert hub.drain(TIMEOUT)
        assert hub.status()["groups"]["mailer"]["standing_by"] is None

    assert calls == ["a", "b"]


def test_a_listener_may_listen_while_another_thread_waits_for_its_end(orders, registry, heard):
    began, leaving = threading.Event(), threading.Event()

    def listens(event):
        if began.is_set():
            return
        began.set()
        assert leaving.wait(TIMEOUT)
        registry.listen("orders", "after_update", heard, group="mailer")

    def other(event):
        raise AssertionError("nobody listens to it any more")

    registry.listen("orders", "after_insert", listens, group="mailer")
    registry.listen("orders", "after_delete", other, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", lease=LEASE)
    with hub:
        insert(orders, "a")
        assert began.wait(TIMEOUT)
        removing = in_thread(registry.remove, "orders", "after_delete", other)
        wait_for(lambda: all(one.stopping for one in hub._groups.threads()[:1]))
        leaving.set()
        removing.join(TIMEOUT)
        assert not removing.is_alive()
        orders.execute("UPDATE orders SET item = 'b'")
        assert heard.next(TIMEOUT).new["item"] == "b"
        orders.execute("DELETE FROM orders")
        assert hub.drain(TIMEOUT)

    wait_for(lambda: group_threads() == [])
