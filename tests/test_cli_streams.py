"""The command, for groups that read streams."""

from pgevents import Hub, Registry

from . import command
from .waiting import wait_for


def test_dead_letters_of_events_are_shown_and_retried(sqlite):
    sqlite.execute("CREATE TABLE other (id integer)")
    hub = Hub(sqlite.url, Registry())
    hub.group("balances", max_attempts=1)

    @hub.streams.subscribe(category="orders", group="balances")
    def broken(event):
        raise RuntimeError("poison")

    with hub:
        hub.streams.append("17", {"type": "order.paid\x1b", "n": 1}, category="orders")
        wait_for(lambda: hub.group("balances").dead_letters(), 20.0)

    shown = command.run("dead", sqlite.url, "balances")[1]
    assert "order.paid\\u001b" in shown and "'17'" in shown and "poison" in shown
    assert '"data"' in command.run("dead", sqlite.url, "balances", "--json")[1]
    groups = command.run("groups", sqlite.url, "--json")[1]
    assert "stream:" in groups
    assert command.run("retry", sqlite.url, "balances")[0] == 0
    assert command.run("rewind", sqlite.url, "balances", "beginning", "--yes")[0] == 0
