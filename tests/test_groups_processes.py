"""Groups whose processes are killed: nothing is forgotten, and what comes again says so."""

import collections
import os
import random
import signal
import subprocess
import sys
import time

import pytest

from pgevents import Hub, Registry
from pgevents.groups.lease_rows import OWNER_SILENT

from . import group_worker
from .processes import Forked
from .waiting import wait_for

EVENTS = 450
KILLS = 3


class Workers:
    """Processes of one group."""

    def __init__(self, *arguments):
        self._arguments = arguments
        self.running = []

    def start(self):
        process = self._begin()
        self.running.append(process)
        return process

    def ready(self, process):
        assert process.stdout.readline() == "ready\n"
        return process

    def _begin(self):
        return Forked(group_worker.main, *self._arguments)

    def kill(self, process, how=signal.SIGKILL):
        process.send_signal(how)
        code = process.wait(30)
        process.stdout.close()
        self.running.remove(process)
        return code

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in list(self.running):
            self.kill(process)


class StoppedWorkers(Workers):
    """Processes of their own: how these end is what is tested."""

    def _begin(self):
        command = [sys.executable, "-m", "tests.stopped_worker", *self._arguments]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.fixture
def effects(orders):
    """The table in which the workers leave a row for each event."""
    number = "INTEGER" if orders.kind == "sqlite" else "serial"
    orders.execute(
        "CREATE TABLE effects (n {} PRIMARY KEY, id integer, again integer)".format(number)
    )
    return orders


def count(database):
    return database.execute("SELECT count(DISTINCT id) FROM effects")[0][0]


def insert(database, count):
    """Write orders, in many transactions; some are rolled back."""
    connection = database.connect()
    for n in range(count):
        cursor = connection.cursor()
        if n % 10 == 0:
            cursor.execute("INSERT INTO orders (item) VALUES ('taken back')")
            connection.rollback()
        cursor.execute("INSERT INTO orders (item) VALUES ('x')")
        connection.commit()
    connection.close()


def state(database):
    """How much the group has to do, and the keys of what it has given up."""
    hub = Hub(database.url, Registry())
    group = hub.group("mailer")
    try:
        return group.lag()[0], [letter.event.key for letter in group.dead_letters()]
    finally:
        hub.stop()


def define(database):
    """Make the group before the first write, so that it begins with it."""
    registry = Registry()
    registry.listen("orders", "after_insert", print, group="mailer")
    hub = Hub(database.url, registry)
    with hub:
        hub.group("mailer").pause()
        hub.group("mailer").resume()


class Disturbances:
    """What happens on PostgreSQL while a group works, besides the death of a process."""

    def __init__(self, database, chance):
        self._database = database
        self._chance = chance
        self._all = [self._terminate, self._restart, self._terminate]

    def next(self):
        if self._database.kind == "postgresql":
            self._all.pop(0)()

    def _terminate(self):
        self._database.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )

    def _restart(self):
        self._database.server.restart(self._chance.choice(["fast", "immediate"]))


@pytest.mark.parametrize("order", ["ordered", "unordered"])
@pytest.mark.parametrize("kind", ["plain", "transactional"])
def test_every_event_is_handled_though_processes_are_killed(effects, kind, order):
    seed = os.environ.get("PGEVENTS_TEST_GROUPS_SEED") or str(random.randrange(10**6))
    print("PGEVENTS_TEST_GROUPS_SEED={}".format(seed))
    chance = random.Random(seed)
    disturbances = Disturbances(effects, chance)
    define(effects)

    with Workers(effects.url, kind, order) as workers:
        for process in [workers.start(), workers.start()]:
            workers.ready(process)
        for kill in range(KILLS):
            insert(effects, EVENTS // KILLS)
            goal = chance.randrange(kill * EVENTS // KILLS, (kill + 1) * EVENTS // KILLS)
            wait_for(lambda: count(effects) >= goal, 60)
            disturbances.next()
            workers.kill(chance.choice(workers.running))
            workers.ready(workers.start())
        wait_for(lambda: count(effects) == EVENTS, 60)
        wait_for(lambda: state(effects) == (0, []))

    rows = effects.execute("SELECT id, again FROM effects ORDER BY n")
    times = collections.Counter(row[0] for row in rows)
    said = collections.Counter(row[0] for row in rows if row[1])
    assert sorted(times) == [row[0] for row in effects.execute("SELECT id FROM orders ORDER BY 1")]
    if kind == "transactional":
        assert len(rows) == EVENTS
    else:
        assert all(said[key] >= times[key] - 1 for key in times)
    if order == "ordered":
        assert list(times) == sorted(times)  # a Counter keeps the order of the first times


def test_an_event_that_kills_its_process_becomes_a_dead_letter_and_holds_up_nothing_else(sqlite):
    # On one database: what they do not share, the kills above prove on both.
    effects = sqlite
    effects.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item text)")
    effects.execute("CREATE TABLE effects (n INTEGER PRIMARY KEY, id integer, again integer)")
    define(effects)

    with Workers(effects.url, "plain", "impatient") as workers:
        # The first one to die leaves a batch; then two attempts at each event of it.
        for process in [workers.start() for _ in range(4)]:
            workers.ready(process)
        effects.execute("INSERT INTO orders (item) VALUES ('a'), ('poison'), ('b')")
        wait_for(lambda: state(effects) == (0, [2]))
        alive = [process.poll() for process in workers.running].count(None)

    assert alive == 1
    assert {row[0] for row in effects.execute("SELECT id FROM effects")} == {1, 3}


def test_a_stopped_process_that_comes_back_does_not_count_twice(postgres):
    # Not on SQLite: a process that is stopped there may hold the whole file's lock.
    effects = postgres
    effects.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    effects.execute("CREATE TABLE effects (id integer, again integer)")
    define(effects)

    with Workers(effects.url, "transactional") as workers:
        first = workers.ready(workers.start())
        effects.execute("INSERT INTO orders (item) VALUES ('a')")
        wait_for(lambda: count(effects) == 1)
        first.send_signal(signal.SIGSTOP)
        workers.ready(workers.start())
        for n in range(50):
            effects.execute("INSERT INTO orders (item) VALUES (%s)", str(n))
        wait_for(lambda: count(effects) == 51, 60)
        first.send_signal(signal.SIGCONT)
        effects.execute("INSERT INTO orders (item) VALUES ('last')")
        wait_for(lambda: count(effects) == 52, 60)

    assert effects.execute("SELECT count(*) FROM effects")[0][0] == 52


@pytest.fixture
def steps(orders):
    """A table in which the workers leave a row for each event, with who and when."""
    orders.execute("CREATE TABLE steps (id integer, again integer, pid integer, began float8)")
    define(orders)
    return orders


def test_a_process_told_to_end_finishes_its_event_and_another_goes_on_at_once(steps):
    way = {"sqlite": "raise", "postgresql": "stop"}[steps.kind]  # of a signal's handler
    with StoppedWorkers(steps.url, "0.1", way) as workers:
        for process in [workers.start(), workers.start()]:
            workers.ready(process)
        steps.execute("INSERT INTO orders (item) VALUES " + ", ".join(["('x')"] * 10))
        pid = wait_for(lambda: steps.execute("SELECT max(pid) FROM steps")[0][0])
        (busy,) = [process for process in workers.running if process.pid == pid]
        assert workers.kill(busy, signal.SIGTERM) == 0
        ended = time.time()
        wait_for(lambda: steps.execute("SELECT count(*) FROM steps")[0][0] == 10)

    rows = steps.execute("SELECT id, again, pid, began FROM steps ORDER BY began")
    assert [row[:2] for row in rows] == [(n, 0) for n in range(1, 11)]
    # Sooner than who dies is taken over from.
    assert min(row[3] for row in rows if row[2] != pid) < ended + OWNER_SILENT


def test_what_a_process_told_to_end_cannot_finish_comes_again_and_says_so(steps):
    with StoppedWorkers(steps.url, "60", "exit") as workers:
        busy = workers.ready(workers.start())
        steps.execute("INSERT INTO orders (item) VALUES ('a'), ('b')")
        assert busy.stdout.readline() == "began 1\n"
        workers.ready(workers.start())
        assert workers.kill(busy, signal.SIGTERM) == 0
        wait_for(lambda: steps.execute("SELECT count(*) FROM steps")[0][0] == 2)

    assert steps.execute("SELECT id, again FROM steps ORDER BY began") == [(1, 1), (2, 1)]
