"""A hub that is started again while a listener still runs, which stop() has not waited for."""

import threading

import pytest

from pgevents import Hub, UsageError

from ..waiting import TIMEOUT, wait_for

LEASE = 1.0  # seconds; others may take over from who is silent for longer


def insert(database, *items):
    for item in items:
        database.execute("INSERT INTO orders (item) VALUES (%s)", item)


def still_runs(hub):
    return [one for one in hub.status()["warnings"] if "still runs" in one]


class Slow:
    """A listener that stays with the item "slow" until `go_on`; counts how many run at once."""

    def __init__(self):
        self.go_on, self.items = threading.Event(), []
        self.most = self._now = 0
        self._lock = threading.Lock()

    def __call__(self, event):
        with self._lock:
            self._now += 1
            self.most = max(self.most, self._now)
            self.items.append(event.new["item"])
        if event.new["item"] == "slow":
            self.go_on.wait(120)
        with self._lock:
            self._now -= 1


@pytest.fixture
def slow():
    slow = Slow()
    yield slow
    slow.go_on.set()


@pytest.mark.parametrize("workers", [1, 3])
def test_plain_listeners_are_called_when_the_former_one_has_returned(
    orders, registry, slow, workers
):
    registry.listen("orders", "after_insert", slow)
    hub = Hub(orders.url, registry, workers=workers).start()
    insert(orders, "slow")
    wait_for(lambda: slow.items)

    left = hub.stop(timeout=0.1)
    with hub:
        insert(orders, "tea", "milk")
        wait_for(lambda: hub.status()["read"] >= 3)
        (warning,) = still_runs(hub)
        drained, called = hub.drain(0.2), slow.items[:]
        slow.go_on.set()
        assert hub.drain(TIMEOUT)
        after = still_runs(hub)

    assert left == 1
    assert "was running when the hub was stopped" in warning
    assert (drained, called, after) == (False, ["slow"], [])
    assert sorted(slow.items) == ["milk", "slow", "tea"]
    assert workers > 1 or slow.most == 1


def test_a_listener_of_a_group_is_called_when_the_former_one_has_returned(orders, registry, slow):
    registry.listen("orders", "after_insert", slow, group="g")
    hub = Hub(orders.url, registry)
    hub.group("g", lease=LEASE)
    hub.start()
    insert(orders, "slow")
    wait_for(lambda: slow.items)
    leases = "pgevents_leases" if orders.kind == "sqlite" else "pgevents.leases"

    def renewed():
        return orders.execute("SELECT renewed FROM {}".format(leases))

    hub.stop(timeout=0.1)
    before = renewed()
    with hub:
        insert(orders, "tea")
        wait_for(lambda: hub.status()["groups"]["g"]["standing_by"])
        wait_for(lambda: renewed()[0] > before[0])
        once = renewed()
        wait_for(lambda: renewed()[0] > once[0])
        called = slow.items[:]
        slow.go_on.set()
        assert hub.drain(TIMEOUT)
        standing_by = hub.status()["groups"]["g"]["standing_by"]

    assert called == ["slow"]
    assert (slow.items, slow.most) == (["slow", "tea"], 1)
    assert standing_by is None


@pytest.mark.parametrize("group", [None, "g"])
def test_a_listener_may_start_its_own_hub_again(orders, registry, slow, group):
    def restart(event):
        slow(event)
        if event.new["item"] == "restart":
            hub.stop()
            hub.start()
            insert(orders, "tea")
            with pytest.raises(UsageError, match="wait for itself"):
                hub.drain()
            slow.items.append("restarted")

    registry.listen("orders", "after_insert", restart, group=group)
    hub = Hub(orders.url, registry).start()
    insert(orders, "restart")
    wait_for(lambda: slow.items[-1:] == ["tea"])
    hub.stop()

    assert slow.items == ["restart", "restarted", "tea"]


def test_a_thread_that_polls_waits_for_the_former_listener(orders, registry, slow):
    registry.listen("orders", "after_insert", slow)
    hub = Hub(orders.url, registry).start()
    insert(orders, "slow")
    wait_for(lambda: slow.items)

    hub.stop(timeout=0.1)
    early = hub.poll(0.1)
    slow.go_on.set()
    hub.poll(TIMEOUT / 10)
    insert(orders, "tea")
    late = hub.poll(TIMEOUT)
    hub.stop()

    assert (early, late) == (0, 1)
    assert (slow.items, slow.most) == (["slow", "tea"], 1)
