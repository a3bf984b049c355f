"""Groups whose processes have wrong clocks, and a machine whose clock is set."""

import os
import signal
import subprocess
import sys
import time

import pytest

from pgevents import Hub, Registry

from . import command
from .clocks import clocks
from .orders import insert
from .waiting import wait_for

DAY = 86400
SOON = 15  # seconds: more than a takeover takes, much less than a day


@pytest.fixture
def clock(tmp_path):
    """A function that makes a clock."""
    return clocks(tmp_path)


@pytest.fixture
def start():
    """A function that starts a process of the group `mailer` with each clock; they are ready."""
    running = []

    def start(database, *clocks):
        begun = [
            subprocess.Popen(
                [sys.executable, "-m", "tests.clock_worker", database.url],
                cwd=str(command.ROOT),
                env=command.environment(**clock.environment),
                stdout=subprocess.PIPE,
                text=True,
            )
            for clock in clocks
        ]
        running.extend(begun)
        for process in begun:
            assert process.stdout.readline() == "ready\n"
        return begun

    yield start
    for process in running:
        process.kill()
        process.wait()
        process.stdout.close()


def prepare(database):
    serial = "INTEGER PRIMARY KEY" if database.kind == "sqlite" else "serial PRIMARY KEY"
    database.execute("CREATE TABLE orders (id {}, item text)".format(serial))
    database.execute("CREATE TABLE calls (id integer, again integer, attempt integer)")
    # Before the processes: the group begins with what comes now.
    registry = Registry()
    registry.listen("orders", "after_insert", print, group="mailer")
    with Hub(database.url, registry):
        pass
    return database


def calls(database):
    return sorted(database.execute("SELECT id, again, attempt FROM calls"))


def leases(database):
    table = "pgevents_leases" if database.kind == "sqlite" else "pgevents.leases"
    return database.execute("SELECT owner FROM " + table)


def done(database):
    return not leases(database)


def test_a_clients_clock_that_is_wrong_by_a_day_changes_nothing(postgres, clock, start):
    prepare(postgres)
    early, late = clock("early"), clock("late")
    early.set(-DAY)
    late.set(DAY)
    start(postgres, early, late)

    # Each has one that is slower than its lease; one of them the third, too.
    for item in ("slow", "slow", "bad"):
        insert(postgres, item)
    wait_for(lambda: len(calls(postgres)) >= 3)
    failed = time.monotonic()
    wait_for(lambda: len(calls(postgres)) == 4 and done(postgres))

    assert calls(postgres) == [(1, 0, 1), (2, 0, 1), (3, 0, 1), (3, 1, 2)]
    assert time.monotonic() - failed < SOON


def test_a_machines_clock_that_is_set_holds_up_nothing(sqlite, clock, start):
    machine = clock("machine")
    prepare(sqlite)
    start(sqlite, machine, machine)

    insert(sqlite, "stuck")
    wait_for(lambda: len(calls(sqlite)) == 1)
    stuck = int(leases(sqlite)[0][0].split(":")[1])
    insert(sqlite, "bad")
    wait_for(lambda: len(calls(sqlite)) == 2)
    machine.set(-DAY)
    os.kill(stuck, signal.SIGKILL)
    wait_for(lambda: len(calls(sqlite)) == 4 and done(sqlite), SOON)
    back = calls(sqlite)
    insert(sqlite, "bad")
    wait_for(lambda: len(calls(sqlite)) == 5)
    machine.set(DAY)
    wait_for(lambda: len(calls(sqlite)) == 6 and done(sqlite), SOON)

    # Whoever had it: what comes again says so.
    assert back == [(1, 0, 1), (1, 1, 2), (2, 0, 1), (2, 1, 2)]
    assert calls(sqlite)[4:] == [(3, 0, 1), (3, 1, 2)]
