"""The commands that look after groups."""

import json
import os
import pty
import socket
import subprocess
import sys

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


def test_groups_shows_who_serves_a_group(orders):
    registry = Registry()
    registry.listen("orders", "after_insert", lambda event: None, group="mailer")

    with Hub(orders.url, registry):
        served = command.run("groups", orders.url, "--json")[1]
        text = command.run("groups", orders.url, COLUMNS="200")[1]
    deserted = command.run("groups", orders.url, "--json")[1]
    nobody = command.run("groups", orders.url, COLUMNS="200")[1]

    us = "{}:{}".format(socket.gethostname(), os.getpid())
    assert [json.loads(out)[0]["served_by"] for out in (served, deserted)] == [[us], []]
    assert us in text
    assert "nobody" in nobody


def test_dead_shows_why_and_retry_puts_it_back(mailer):
    out = command.run("dead", mailer.url, "mailer", "--traceback")[1]
    letter = json.loads(command.run("dead", mailer.url, "mailer", "--json")[1])
    retried = command.run("retry", mailer.url, "mailer", str(letter["id"]))
    after = command.run("dead", mailer.url, "mailer")[1]

    assert "poison" in out and "Traceback" in out
    assert " UTC  after_insert" in out
    assert letter["event"]["new"]["item"] == "bad"
    assert retried[:2] == (0, "1 dead letter of mailer will be retried\n")
    assert "nothing" in after


def test_retry_names_the_letters_that_there_are_not(mailer):
    none = command.run("retry", mailer.url, "mailer", "999")
    some = command.run("retry", mailer.url, "mailer", "999", "1", "998")

    assert none == (1, "", "pgevents: mailer has no dead letter 999\n")
    assert some == (
        1,
        "1 dead letter of mailer will be retried\n",
        "pgevents: mailer has no dead letter 999, 998\n",
    )


def test_retry_says_what_cannot_be_handled_anew(mailer):
    mailer.execute(
        "DELETE FROM {}".format("pgevents_log" if mailer.kind == "sqlite" else "pgevents.log")
    )

    code, out, err = command.run("retry", mailer.url, "mailer")

    assert (code, out) == (1, "")
    assert err == "pgevents: 1 dead letter of mailer stays: its event is in the log no more\n"


def test_discard_asks_before_it_forgets_all(mailer):
    asked = command.run("discard", mailer.url, "mailer")
    still = command.run("dead", mailer.url, "mailer")[1]
    discarded = command.run("discard", mailer.url, "mailer", "--yes")
    after = command.run("discard", mailer.url, "mailer")

    assert asked[0] == 1 and "Discard 1 dead letter of mailer?" in asked[1]
    assert "poison" in still
    assert discarded == (0, "1 dead letter of mailer discarded\n", "")
    assert after == (0, "0 dead letters of mailer discarded\n", "")


def test_discard_forgets_those_that_it_is_given_and_names_the_others(mailer):
    none = command.run("discard", mailer.url, "mailer", "999")
    some = command.run("discard", mailer.url, "mailer", "999", "1")

    assert none == (1, "", "pgevents: mailer has no dead letter 999\n")
    assert some[:2] == (1, "1 dead letter of mailer discarded\n")
    assert some[2] == none[2]
    assert "nothing" in command.run("dead", mailer.url, "mailer")[1]


@pytest.mark.parametrize("to, waiting", [("beginning", 2), ("now", 0), ("2001-01-01", 2)])
def test_rewind_moves_a_group(mailer, to, waiting):
    code, out, err = command.run("rewind", mailer.url, "mailer", to, "--yes")

    assert (code, err) == (0, "")
    assert "{} events wait".format(waiting) in out


def test_rewind_says_in_which_zone_a_time_is(mailer):
    given = command.run("rewind", mailer.url, "mailer", "2001-01-01T07:00+02:00", "--yes")
    local = command.run("rewind", mailer.url, "mailer", "2001-01-01", "--yes", TZ="XYZ-5:30")

    assert "is at 2001-01-01 07:00:00+02:00;" in given[1]
    assert "is at 2001-01-01 00:00:00+05:30;" in local[1]


def test_rewind_refuses_a_time_that_is_to_come(mailer):
    code, out, err = command.run("rewind", mailer.url, "mailer", "2099-01-01T00:00+00:00", "--yes")

    assert (code, out) == (1, "")
    assert "2099-01-01 00:00:00+00:00 is to come" in err
    assert json.loads(command.run("groups", mailer.url, "--json")[1])[0]["waiting"] == 1


def test_a_group_is_paused_and_resumed(mailer):
    resumed = command.run("resume", mailer.url, "mailer")
    (on,) = json.loads(command.run("groups", mailer.url, "--json")[1])
    paused = command.run("pause", mailer.url, "mailer")
    (off,) = json.loads(command.run("groups", mailer.url, "--json")[1])

    assert resumed == (0, "the group mailer goes on\n", "")
    assert paused == (0, "the group mailer is paused, until pgevents resume\n", "")
    assert (on["paused"], off["paused"]) == (False, True)


def test_drop_tells_what_is_lost_and_asks(mailer):
    asked = command.run("drop", mailer.url, "mailer")
    still = json.loads(command.run("groups", mailer.url, "--json")[1])
    dropped = command.run("drop", mailer.url, "mailer", "--yes")
    after = command.run("groups", mailer.url, "--json")[1]

    assert asked[0] == 1
    assert "1 waiting event and 1 dead letter are lost" in asked[1]
    assert [row["group"] for row in still] == ["mailer"]
    assert dropped == (
        0,
        "the group mailer is dropped, with 1 waiting event and 1 dead letter\n",
        "",
    )
    assert json.loads(after) == []


def test_drop_names_the_processes_that_serve_the_group(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    registry = Registry()
    registry.listen("orders", "after_insert", lambda event: None, group="mailer")

    with Hub(sqlite.url, registry):
        code, out, _ = command.run("drop", sqlite.url, "mailer")

    assert code == 1
    assert ":{} serves it: stop it first.".format(os.getpid()) in out


def test_an_unknown_group_and_place_are_named(mailer):
    for word in ("dead", "retry", "discard", "pause", "resume", "drop"):
        code, _, err = command.run(word, mailer.url, "postman")
        assert code == 1 and "'postman'" in err and "mailer" in err

    place = command.run("rewind", mailer.url, "mailer", "yesterday", "--yes")

    assert place[0] == 1 and "'yesterday'" in place[2]


@pytest.mark.parametrize(
    "words, said",
    [
        (["groups"], "mailer"),
        (["dead", "mailer"], "poison"),
        (["retry", "mailer"], "1 dead letter of mailer"),
        (["retry", "mailer", "1"], "1 dead letter of mailer"),
        (["discard", "mailer", "1"], "discarded"),
        (["rewind", "--yes", "mailer", "now"], "0 events wait"),
        (["backfill", "mailer"], "no backfill"),
        (["pause", "mailer"], "paused"),
        (["resume", "mailer"], "goes on"),
        (["drop", "mailer", "--yes"], "dropped"),
    ],
)
def test_the_url_may_come_from_the_environment_for_groups_too(mailer, words, said):
    code, out, err = command.run(*words, PGEVENTS_URL=mailer.url)

    assert (code, err) == (0, "")
    assert said in out


def test_without_a_url_the_groups_name_is_not_taken_for_it():
    for words in (["dead", "mailer"], ["retry", "mailer", "17"], ["rewind", "mailer", "now"]):
        code, _, err = command.run(*words, PGEVENTS_URL="")

        assert code == 2
        assert "no database: give its URL first" in err


def test_uninstall_of_everything_tells_which_groups_are_lost(mailer):
    code, out, _ = command.run("uninstall", mailer.url, "--everything")
    still = json.loads(command.run("groups", mailer.url, "--json")[1])
    done = command.run("uninstall", mailer.url, "--everything", "--yes")

    assert code == 1
    assert "no longer captured, for all services: default\n" in out
    assert "the log: deleted, with the events that nobody has read yet\n" in out
    assert "the group mailer: deleted, with 1 waiting event and 1 dead letter\n" in out
    assert [row["group"] for row in still] == ["mailer"]
    assert done[0] == 0 and "kept" not in done[1]
    assert "log is not there" in command.run("groups", mailer.url)[2]


def test_uninstall_of_a_service_tells_that_groups_are_kept(mailer):
    command.run("install", mailer.url, "orders", "--service", "reports")

    asked = command.run("uninstall", mailer.url)
    done = command.run("uninstall", mailer.url, "--yes")
    (row,) = json.loads(command.run("groups", mailer.url, "--json")[1])

    assert asked[0] == 1
    assert "no longer captured, for the service default\n" in asked[1]
    assert "the log:" not in asked[1]
    for out in asked[1], done[1]:
        assert "the groups mailer: kept; --everything deletes them, too\n" in out
    assert (row["group"], row["waiting"], row["dead"]) == ("mailer", 1, 1)


def test_uninstall_leaves_groups_whose_tables_are_captured_no_more(mailer):
    mailer.execute(
        "DELETE FROM {}".format("pgevents_watch" if mailer.kind == "sqlite" else "pgevents.watch")
    )

    done = command.run("uninstall", mailer.url)

    assert done == (
        0,
        "nothing was captured here\n" "the groups mailer: kept; --everything deletes them, too\n",
        "",
    )
    assert "mailer" in command.run("groups", mailer.url)[1]


def test_without_a_log_groups_says_so(orders):
    code, _, err = command.run("groups", orders.url)

    assert code == 1
    assert "log is not there" in err and "Traceback" not in err


@pytest.fixture
def copy(orders):
    return half_done(orders)


@pytest.fixture
def sqlite_copy(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item text)")
    return half_done(sqlite)


def half_done(database):
    """Let a group `copy` handle five rows of a backfill of ten, and wait."""
    for n in range(10):
        database.execute("INSERT INTO orders (item) VALUES (%s)", str(n))
    registry = Registry()
    hub = Hub(database.url, registry)

    def five(event):
        if event.key == 5:
            hub.group("copy").pause()

    registry.listen("orders", "after_change", five, group="copy")
    group = hub.group("copy", start="backfill", batch_size=5)
    with hub:
        wait_for(lambda: group.progress() == {"done": 5, "total": 10})
    return database


def finish_backfill(database):
    """Be the process that handles the rest."""
    registry = Registry()
    registry.listen("orders", "after_change", lambda event: None, group="copy")
    hub = Hub(database.url, registry)
    group = hub.group("copy", batch_size=5)
    with hub:
        group.resume()
        wait_for(lambda: group.progress() is None)


def test_groups_shows_how_far_a_backfill_is(sqlite_copy):
    (row,) = json.loads(command.run("groups", sqlite_copy.url, "--json")[1])
    text = command.run("groups", sqlite_copy.url, COLUMNS="200")[1]

    assert row["backfill"] == {"done": 5, "total": 10}
    assert "copy (paused) (backfill 50 %)" in text


def test_backfill_waits_until_all_is_handled(copy):
    waiting = command.start("backfill", copy.url, "copy")
    first = waiting.stdout.readline()
    finish_backfill(copy)
    code, rest, err = command.finish(waiting)

    assert first == "copy: 5 of 10 rows, 50 %\n"
    assert (code, rest, err) == (0, "the backfill of copy is done: 10 rows\n", "")


def test_backfill_draws_a_bar_on_a_terminal(sqlite_copy):
    terminal, end = pty.openpty()
    waiting = subprocess.Popen(
        [sys.executable, "-m", "pgevents", "backfill", sqlite_copy.url, "copy"],
        stdin=subprocess.DEVNULL,
        stdout=end,
        stderr=end,
        env=command.environment(TERM="xterm", COLUMNS="100"),
    )
    os.close(end)
    shown = b""
    while b"5 of 10" not in shown:
        shown += os.read(terminal, 4096)
    finish_backfill(sqlite_copy)
    while b"is done: 10 rows" not in shown:
        shown += os.read(terminal, 4096)
    os.close(terminal)

    assert waiting.wait(command.TIMEOUT) == 0


def test_backfill_says_when_it_is_over_and_when_there_is_none(sqlite_copy):
    finish_backfill(sqlite_copy)
    over = command.run("backfill", sqlite_copy.url, "copy")
    command.run("rewind", sqlite_copy.url, "copy", "now", "--yes")
    none = command.run("backfill", sqlite_copy.url, "copy")

    assert over == (0, "the backfill of copy is done: 10 rows\n", "")
    assert none[0] == 0 and "copy has no backfill" in none[1]


def test_discard_takes_the_dead_letters_of_an_age_of_one_group_or_of_all(mailer):
    registry = Registry()

    def handle(event):
        raise ValueError("poison")

    registry.listen("orders", "after_insert", handle, group="shop:index")
    hub = Hub(mailer.url, registry)
    hub.group("shop:index", max_attempts=1, start="beginning")
    with hub:
        letters = wait_for(lambda: hub.group("shop:index").dead_letters()[1:])
    table = "pgevents_dead" if mailer.kind == "sqlite" else "pgevents.dead"
    mailer.execute("UPDATE {} SET at = at - 864000 WHERE id < %s".format(table), letters[0].id)

    young = command.run("discard", mailer.url, "mailer", "--older-than", "30d", "--yes")
    wrong = command.run("discard", mailer.url, "mailer", "--older-than", "a month")
    whose = command.run("discard", mailer.url, "--older-than", "1d")
    every = command.run("discard", mailer.url, "--all-groups", "--older-than", "7d", "--yes")
    left = hub.group("shop:index").dead_letters() + hub.group("mailer").dead_letters()
    hub.stop()

    assert "0 dead letters of mailer discarded" in young[1]
    assert "30d, 12h, 45m or 90s" in wrong[2]
    assert "--all-groups" in whose[2]
    assert "2 dead letters of all groups discarded" in every[1]
    assert [letter.id for letter in left] == [letters[0].id]
