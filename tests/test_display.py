"""What a writer chose, names, rows, errors, is safe to show: in a terminal, in a log."""

import json
import logging
import os
import pty
import shutil
import subprocess
import sys
import threading

import click
import pytest

from pgevents import Hub, Registry
from pgevents.cli.lines import line
from pgevents.display import paragraphs, shown
from pgevents.testing import FakeHub

from . import command
from .database import Sqlite
from .waiting import wait_for

EVIL = "a\x1b[2J\a\r\nb\u202ec\x9b"  # clears the screen, beeps, forges a line, turns it around
SAFE = "a\\x1b[2J\\x07\\r\\nb\\u202ec\\x9b"


def is_safe(text):
    return all(line.isprintable() for line in text.split("\n"))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A database in which everything has such a name, and a dead letter such an error; threads."""
    database, registry = Sqlite(tmp_path_factory.mktemp("evil") / "test.db"), Registry()
    database.execute(f'CREATE TABLE "{EVIL}" ("{EVIL}" TEXT PRIMARY KEY)')

    def fail(event):
        raise ValueError(event.key)

    registry.listen(f'"{EVIL}"', "after_insert", fail, group=EVIL)
    hub = Hub(database.url, registry, service=EVIL)
    hub.group(EVIL, max_attempts=1)
    with hub:
        names = [thread.name for thread in threading.enumerate()]
        database.execute(f'INSERT INTO "{EVIL}" VALUES (%s)', EVIL)
        wait_for(hub.group(EVIL).dead_letters)
    yield database.path, names
    database.close()


@pytest.fixture
def evil(made, tmp_path):
    """The URL of a copy of that database."""
    return "sqlite:///" + shutil.copy(str(made[0]), str(tmp_path))


def test_text_that_is_not_printable_is_written_out():
    assert shown(EVIL) == SAFE
    assert shown("tea, ü, 茶 \\x1b") == "tea, ü, 茶 \\x1b"
    assert shown("\ud800\u2028\u200b") == "\\ud800\\u2028\\u200b"
    assert paragraphs("a\n\tb\x1b\r\n") == "a\n    b\\x1b\\r\n"


@pytest.mark.parametrize(
    "words",
    [
        ["status"],
        ["groups"],
        ["dead", EVIL, "--traceback"],
        ["retry", EVIL, "99"],
        ["pause", EVIL],
        ["backfill", EVIL],
        ["rewind", EVIL, "now"],
        ["drop", EVIL],
        ["uninstall", "--everything"],
        ["uninstall", "--service", EVIL, "--yes"],
        ["dead", "nobody"],
        ["tail", "nothing"],
    ],
    ids=lambda words: "-".join(words).replace(EVIL, "evil"),
)
def test_the_command_prints_nothing_that_a_terminal_obeys(evil, words):
    code, out, err = command.run(words[0], evil, *words[1:], COLUMNS="400")

    assert is_safe(out) and is_safe(err)
    assert SAFE in out + err or "a\\x1b[2J\\x07 b\\u202e" in out + err


def test_what_is_written_for_programs_stays_exact(evil):
    assert json.loads(command.run("status", evil, "--json")[1])[0]["services"] == [EVIL]
    assert json.loads(command.run("groups", evil, "--json")[1])[0]["group"] == EVIL
    letter = json.loads(command.run("dead", evil, EVIL, "--json")[1])
    assert letter["error"] == f"ValueError: {EVIL}" or EVIL in letter["traceback"]
    assert letter["event"]["new"] == {EVIL: EVIL}


def test_a_line_of_tail_is_safe(registry):
    (event,) = FakeHub(registry).insert(f'"{EVIL}"', {"id": EVIL, EVIL: {EVIL: [EVIL]}})

    assert click.unstyle(line(event)).isprintable()
    assert SAFE in line(event)


def test_sql_with_such_a_name_goes_to_a_file_as_it_is_and_to_no_terminal(evil):
    words = [sys.executable, "-m", "pgevents", "sql", evil, f'"{EVIL}"']
    ours, theirs = pty.openpty()
    code, out, _ = command.run(*words[3:])
    terminal = subprocess.run(words, stdout=theirs, stderr=subprocess.PIPE, encoding="utf-8")
    os.write(theirs, b"end\n")
    written = os.read(ours, 10_000)
    os.close(ours)
    os.close(theirs)

    assert code == 0 and '"{}"'.format(EVIL.replace("\r\n", "\n")) in out  # read as text
    assert terminal.returncode == 1 and "write it to a file" in terminal.stderr
    assert written == b"end\r\n"


def test_threads_have_harmless_names(made):
    assert f"pgevents-group-{SAFE}" in made[1]


def test_a_log_has_no_line_that_somebody_else_wrote(orders, registry, caplog):
    def fail(event):
        raise ValueError(event.new["item"])

    fail.__qualname__ = EVIL
    registry.listen("orders", "after_insert", fail)
    with caplog.at_level("DEBUG"), Hub(orders.url, registry) as hub:
        orders.execute("INSERT INTO orders (item) VALUES (%s)", EVIL)
        assert hub.drain()

    assert any(SAFE in record.getMessage() for record in caplog.records)
    formatter = logging.Formatter()
    for record in caplog.records:
        assert record.getMessage().isprintable()
        assert is_safe(formatter.format(record))


def test_a_letter_that_is_too_deep_hides_no_other(postgres):
    postgres.execute("CREATE TABLE t (id int PRIMARY KEY, data json)")
    registry = Registry()

    def fail(event):
        raise ValueError("poison")

    registry.listen("t", "after_insert", fail, group="g")
    hub = Hub(postgres.url, registry)
    hub.group("g", max_attempts=1)
    with hub:
        for number, levels in enumerate((1, 100_00, 900, 2)):
            postgres.execute("INSERT INTO t VALUES (%s, %s)", number, "[" * levels + "]" * levels)
        wait_for(lambda: len(hub.group("g").dead_letters()) == 4)

    code, out, err = command.run("dead", postgres.url, "g")
    lines = command.run("dead", postgres.url, "g", "--json")[1].splitlines()

    assert (code, err) == (0, "")
    assert [line.split("after_insert public.t ")[1][:1] for line in out.splitlines()] == [*"0123"]
    events = [json.loads(line)["event"] for line in lines]
    assert len(events) == 4
    assert all("new" in event or "too deeply" in event["unreadable"] for event in events)
    assert [events[number]["new"]["id"] for number in (0, 1, 3)] == [0, 1, 3]
