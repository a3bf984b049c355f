"""The commands that look after groups."""

import json

import pytest

from pgevents import Hub, Registry

from . import command
from .waiting import wait_for


@pytest.fixture
def mailer(orders):
    """A database whose group `mailer` has given one event up, and has one waiting."""
    registry = Registry()

    def handle(event):
        if event.new["item"] == "bad":
            raise ValueError("poison")

    registry.listen("orders", "after_insert", handle, group="mailer")
    hub = Hub(orders.url, registry)
    group = hub.group("mailer", max_attempts=1)
    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('bad')")
        wait_for(group.dead_letters)
        group.pause()
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert hub.drain()
    return orders


def test_groups_shows_what_waits_and_what_was_given_up(mailer):
    code, out, err = command.run("groups", mailer.url, "--json")
    (row,) = json.loads(out)
    text = command.run("groups", mailer.url)[1]

    assert (code, err) == (0, "")
    assert (row["group"], row["waiting"], row["dead"], row["paused"]) == ("mailer", 1, 1, True)
    assert "mailer (paused)" in text


def test_dead_shows_why_and_retry_puts_it_back(mailer):
    out = command.run("dead", mailer.url, "mailer", "--traceback")[1]
    letter = json.loads(command.run("dead", mailer.url, "mailer", "--json")[1])
    retried = command.run("retry", mailer.url, "mailer", str(letter["id"]))
    after = command.run("dead", mailer.url, "mailer")[1]

    assert "poison" in out and "Traceback" in out
    assert letter["event"]["new"]["item"] == "bad"
    assert retried[:2] == (0, "1 dead letter of mailer will be handled anew\n")
    assert "nothing" in after


@pytest.mark.parametrize("to, waiting", [("beginning", 2), ("now", 0), ("2001-01-01", 2)])
def test_rewind_moves_a_group(mailer, to, waiting):
    code, out, err = command.run("rewind", mailer.url, "mailer", to, "--yes")

    assert (code, err) == (0, "")
    assert "{} events wait".format(waiting) in out


def test_an_unknown_group_and_place_are_named(mailer):
    code, _, err = command.run("dead", mailer.url, "postman")
    place = command.run("rewind", mailer.url, "mailer", "yesterday", "--yes")

    assert code == 1 and "'postman'" in err and "mailer" in err
    assert place[0] == 1 and "'yesterday'" in place[2]


def test_without_a_log_groups_says_so(orders):
    code, _, err = command.run("groups", orders.url)

    assert code == 1
    assert "log is not there" in err and "Traceback" not in err
