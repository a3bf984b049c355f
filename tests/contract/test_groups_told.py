"""What a group reports is written down already."""

import pytest

from pgevents import Hub, signals

from ..orders import insert
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds in which a group has to be done


@pytest.mark.parametrize("transactional", [True, False], ids=["transactional", "plain"])
def test_who_is_told_of_a_dead_letter_finds_it_and_may_retry_it_and_write(
    orders, registry, transactional
):
    found, calls = [], []

    def handle(event, connection=None):
        calls.append(event.new["item"])
        if calls == ["bad"]:
            raise ValueError("poison")

    def tell(hub, group, event, error, letter):
        letters = hub.group(group).dead_letters()
        orders.execute("UPDATE orders SET status = 'told'")  # nothing of ours is locked
        found.append((letters, letter, hub.group(group).retry_dead(letter), str(error)))

    registry.listen("orders", "after_insert", handle, group="mailer", transactional=transactional)
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=1)
    with hub, signals.dead_lettered.connected_to(tell, sender=hub):
        insert(orders, "bad")
        wait_for(lambda: len(calls) == 2, TIMEOUT)
        assert group.dead_letters() == []

    ((letters, letter, retried, error),) = found
    assert [(one.id, one.event.new["item"]) for one in letters] == [(letter, "bad")]
    assert (retried, error) == (1, "poison")


def test_who_takes_what_release_0_1_told_of_a_dead_letter_is_told_as_much(orders, registry):
    found = []

    def handle(event):
        raise ValueError("poison")

    def tell(hub, group, event, error):
        found.append((group, event.new["item"], str(error)))

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    hub.group("mailer", max_attempts=1)
    with hub, signals.dead_lettered.connected_to(tell, sender=hub):
        insert(orders, "bad")
        wait_for(lambda: found, TIMEOUT)

    assert found == [("mailer", "bad", "poison")]


def test_an_attempt_that_is_lost_to_another_process_is_not_reported(orders, registry):
    told, calls = [], []
    leases = "pgevents_leases" if orders.kind == "sqlite" else "pgevents.leases"

    def handle(event):
        calls.append(event.attempt)
        if len(calls) == 1:
            # As another process does that takes over.
            orders.execute("UPDATE {} SET owner = 'elsewhere:1:1', due = 0".format(leases))
            raise ValueError("poison")

    def tell(hub, **details):
        told.append(details)

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=1)
    with hub, signals.dead_lettered.connected_to(tell, sender=hub):
        insert(orders, "bad")
        wait_for(lambda: group.dead_letters(), TIMEOUT)
        wait_for(lambda: told, TIMEOUT)
        (letter,) = group.dead_letters()

    # The one that counts is the other's, who died of it.
    assert len(told) == 1
    assert "ended with their process" in letter.error
    assert [str(one["error"]) for one in told] == [letter.error]
