"""Streams and several processes, some of which are killed."""

import signal

import pytest

from pgevents import Hub, Registry

from . import stream_worker
from .processes import Forked
from .waiting import wait_for

TIMEOUT = 60.0  # seconds


@pytest.fixture
def hub(database):
    database.execute("CREATE TABLE other (id integer)")
    database.execute("CREATE TABLE totals (stream text, version integer)")
    hub = Hub(database.url, Registry())
    hub.install()
    yield hub
    hub.stop()


@pytest.fixture
def begun():
    """Begins processes, and kills what is left of them at the end."""
    processes = []

    def begin(*arguments):
        process = Forked(*arguments)
        processes.append(process)
        assert process.stdout.readline() == "ready\n"
        return process

    yield begin
    for process in processes:
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)
        process.stdout.close()


def test_of_two_processes_that_append_at_a_version_each_append_is_one_version(database, hub, begun):
    processes = [begun(stream_worker.append, database.url, "a", 40) for _ in range(2)]
    late = sum(int(process.stdout.readline()) for process in processes)
    for process in processes:
        process.wait(TIMEOUT)

    events = list(hub.streams.load("a"))
    assert [event.version for event in events] == list(range(1, 81))
    assert [event.data["number"] for event in events] == list(range(1, 81))
    assert late >= 0 and sorted(e.position for e in events) == [e.position for e in events]


def test_a_process_that_is_killed_leaves_whole_appends_with_their_rows(database, hub, begun):
    for stream in ("a", "b"):
        process = begun(stream_worker.append_for_ever, database.url, stream)
        wait_for(lambda: hub.streams.load(stream).version > 30, TIMEOUT)
        process.send_signal(signal.SIGKILL)
        process.wait(TIMEOUT)

    versions = [hub.streams.load(stream).version for stream in ("a", "b")]
    for stream, version in zip(("a", "b"), versions):
        assert [e.version for e in hub.streams.load(stream)] == list(range(1, version + 1))
    wait_for(lambda: database.execute("SELECT count(*) FROM other")[0][0] * 3 == sum(versions), 5)


def test_a_projection_whose_processes_are_killed_has_each_event_once(database, hub, begun):
    streams = hub.streams
    processes = [begun(stream_worker.project, database.url) for _ in range(2)]
    for turn in range(3):
        for number in range(60):
            streams.append(f"s{number % 3}", {"type": "happened", "number": number})
        if turn < 2:
            processes[turn].send_signal(signal.SIGKILL)
            processes[turn].wait(TIMEOUT)
            processes.append(begun(stream_worker.project, database.url))

    def done():
        return database.execute("SELECT stream, version FROM totals ORDER BY 1, 2")

    wait_for(lambda: len(done()) >= 180, TIMEOUT)
    assert [tuple(row) for row in done()] == [
        (f"s{stream}", version) for stream in range(3) for version in range(1, 61)
    ]
