"""status() covers each thread and each group; no error ends a thread."""

import pytest

from pgevents import Hub, signals
from pgevents.capture.housekeeper import Housekeeper
from pgevents.delivery.dispatcher import Lane
from pgevents.groups.consumer import Consumer
from pgevents.groups.ledger import Ledger
from pgevents.groups.renewer import Renewer
from pgevents.listening.registry import Registry

from ..orders import insert
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


def test_what_a_group_does_is_counted(orders, registry):
    def handle(event):
        if event.new["item"] == "bad":
            raise ValueError("poison")

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=3, backoff=(0.01, 0.02))
    with hub:
        insert(orders, "a", "bad", "b")
        wait_for(group.dead_letters, TIMEOUT)
        wait_for(lambda: group.lag()[0] == 0, TIMEOUT)
        wait_for(lambda: hub.status()["groups"]["mailer"]["handled"] == 2, TIMEOUT)
        status = hub.status()

    counted = status["groups"]["mailer"]
    assert [counted[name] for name in ("delivered", "failed", "retried", "dead")] == [2, 3, 2, 1]
    assert counted["read"] >= 5  # each attempt is a claim, and what waits behind comes with it
    assert [status[name] for name in ("handled", "delivered", "retried", "failed")] == [3, 2, 2, 1]
    assert status["read"] == counted["read"]


@pytest.mark.parametrize(
    "worker, name",
    [
        (Housekeeper, "pgevents-housekeeper"),
        (Renewer, "pgevents-renewer"),
        (Consumer, "pgevents-group-mailer"),
        (Lane, "pgevents-dispatcher-2"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_a_thread_that_ended_is_named_and_the_hub_has_failed(
    orders, registry, heard, monkeypatch, worker, name
):
    monkeypatch.setattr(worker, "run", lambda self: None)
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(orders.url, registry, workers=2)
    with hub:
        wait_for(lambda: name in hub.status()["threads_ended"], TIMEOUT)
        state = hub.status()["state"]

    assert state == "failed"


@pytest.mark.parametrize(
    "worker, error",
    [
        (Housekeeper, RuntimeError("a mistake")),
        (Renewer, SystemExit("good bye")),
        (Consumer, SystemExit("good bye")),
        (Lane, RuntimeError("a mistake")),
    ],
    ids=lambda value: getattr(value, "__name__", type(value).__name__),
)
def test_a_thread_whose_work_raises_begins_again_and_it_is_told(
    orders, registry, heard, monkeypatch, worker, error
):
    run, raised = worker.run, []

    def fail_once(self):
        if self not in raised:
            raised.append(self)
            raise error
        run(self)

    monkeypatch.setattr(worker, "run", fail_once)
    registry.listen("orders", "after_insert", heard, group="mailer")
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry, workers=2) as hub:
        insert(orders, "tea")
        heard.take(2, TIMEOUT)
        wait_for(lambda: hub.status()["warnings"], TIMEOUT)
        status = hub.status()

    assert (status["state"], status["threads_ended"]) == ("listening", [])
    assert str(error) in " ".join(status["warnings"])


def test_a_renewal_that_raises_something_else_ends_no_renewals(
    orders, registry, heard, monkeypatch
):
    renewed = []

    def renew(*args, **options):
        renewed.append(args)
        raise ValueError("a mistake")

    monkeypatch.setattr(Ledger, "renew", renew)

    def slow(event):
        wait_for(lambda: len(renewed) >= 2, TIMEOUT)
        heard(event)

    registry.listen("orders", "after_insert", slow, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", lease=2)
    with hub:
        insert(orders, "tea")
        heard.next(TIMEOUT)
        status = hub.status()

    assert (status["state"], status["threads_ended"]) == ("listening", [])


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_a_listener_or_a_receiver_that_ends_its_thread_ends_nothing(orders, registry, heard, error):
    def leave(event):
        raise error()

    def receive(hub, **details):
        raise error()

    registry.listen("orders", "after_insert", leave)
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    with signals.listener_failed.connected_to(receive, sender=hub):
        with signals.connected.connected_to(receive, sender=hub), hub:
            insert(orders, "tea", "milk")
            events = heard.take(2, TIMEOUT)
            status = hub.status()

    assert [event.new["item"] for event in events] == ["tea", "milk"]
    assert (status["state"], status["threads_ended"]) == ("listening", [])


def test_a_mistake_of_ours_with_one_event_keeps_no_other_back(orders, heard, monkeypatch):
    registry = Registry()
    registry.listen("orders", "after_insert", heard)
    find, failed = registry.listeners, []

    def listeners(keys, moment):
        if not failed:
            failed.append(moment)
            raise KeyError(moment)
        return find(keys, moment)

    monkeypatch.setattr(registry, "listeners", listeners)
    with Hub(orders.url, registry) as hub:
        insert(orders, "a", "b")
        event = heard.next(TIMEOUT)
        assert hub.drain(TIMEOUT)
        status = hub.status()

    assert event.new["item"] == "b"
    assert (status["state"], status["failed"]) == ("listening", 1)
