"""On PostgreSQL, a loop of the application's own whose database is gone."""

import threading

from pgevents import Hub, Registry

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


def test_a_hub_stops_though_its_messages_cannot_be_given_back(postgres, proxy, caplog):
    hub = Hub(postgres.through(proxy), Registry()).start()
    box = hub.messages("a", group="w", batch_size=5, timeout=TIMEOUT)
    hub.publish_many([("a", number) for number in range(5)])
    next(box)
    proxy.refuse()
    proxy.cut()

    hub.stop(timeout=1.0)

    assert "could not give" in caplog.text
    assert hub.status()["state"] == "stopped"
    wait_for(
        lambda: not [t for t in threading.enumerate() if t.name.startswith("pgevents-renewer")],
        TIMEOUT,
    )
    proxy.accept()
    with Hub(postgres.url, Registry()) as other:
        other.group("w", lease=1.0)
        with other.messages("a", group="w", timeout=TIMEOUT) as box:
            found = [next(box) for _ in range(5)]
            for message in found:
                message.ack()
    assert sorted(message.payload for message in found) == list(range(5))
