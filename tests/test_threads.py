"""Threads that can be woken and end when asked to; without a database, and without sleeping."""

import os
import select
import socket
import threading
import time

import pytest

from pgevents import threads
from pgevents.retry import Backoff
from pgevents.threads import Gate, Waker, Worker

from .waiting import TIMEOUT, wait_for

LONG = 60.0  # seconds; a test that waits for so long has failed


def soon():
    return time.monotonic() + TIMEOUT


@pytest.fixture
def beside():
    """Runs functions in threads of their own, which end with the test."""
    running = []

    def run(function, *arguments):
        thread = threading.Thread(target=function, args=arguments)
        thread.start()
        running.append(thread)
        return thread

    yield run
    for thread in running:
        thread.join(TIMEOUT)
        assert not thread.is_alive()


# A waker


@pytest.fixture
def waker():
    waker = Waker()
    yield waker
    waker.close()


@pytest.fixture
def pipe():
    """Two sockets: what is sent to one can be read from the other."""
    reading, writing = socket.socketpair()
    yield reading, writing
    reading.close()
    writing.close()


def test_a_sleep_ends_when_another_thread_wakes(waker, beside):
    beside(waker.wake)

    assert not waker.sleep(LONG)
    assert waker.woken


def test_a_sleep_ends_at_once_when_it_was_woken_before(waker):
    waker.wake()

    assert not waker.sleep(LONG)


def is_awake(waker):
    """Whether the next sleep would end at once."""
    return bool(select.select([waker._reading], [], [], 0)[0])


@pytest.mark.parametrize("wakes", [1, 3, 5000])  # 5,000 are more than its sockets hold
def test_many_wakes_never_block_and_end_one_sleep(waker, wakes):
    for _ in range(wakes):
        waker.wake()
    assert is_awake(waker)

    assert not waker.sleep(LONG)

    assert not is_awake(waker)


def test_it_stays_woken_until_the_sleeper_says_otherwise(waker):
    waker.wake()
    waker.sleep(LONG)

    assert waker.woken


@pytest.mark.parametrize("timeout", [0, -1])
def test_a_sleep_without_time_returns_at_once(waker, timeout):
    assert not waker.sleep(timeout)
    assert not waker.woken


def test_a_sleep_ends_when_its_socket_can_be_read(waker, pipe):
    reading, writing = pipe
    assert not waker.sleep(0, reading.fileno())

    writing.send(b"x")

    assert waker.sleep(LONG, reading.fileno())
    assert not waker.woken


def test_a_sleep_ends_when_its_socket_can_be_written(waker, pipe):
    reading, writing = pipe

    assert waker.sleep(LONG, writing.fileno(), write=True)
    assert not waker.sleep(0, writing.fileno())


def test_a_wake_and_a_socket_at_once_are_both_noticed(waker, pipe):
    reading, writing = pipe
    writing.send(b"x")
    waker.wake()

    assert waker.sleep(LONG, reading.fileno())
    assert waker.woken
    assert waker.sleep(LONG, reading.fileno())  # nothing was read from it


def test_a_waker_that_is_closed_may_still_be_woken():
    waker = Waker()
    waker.close()

    waker.wake()

    assert waker.woken


# A gate


def test_who_comes_while_the_gate_is_closed_waits_until_it_opens(beside):
    gate, steps = Gate(), []

    def pass_through():
        with gate:
            steps.append("inside")

    gate.close()
    passing = beside(pass_through)
    wait_for(lambda: gate._changed._waiters)
    steps.append("closed")
    gate.open()
    passing.join(TIMEOUT)

    assert steps == ["closed", "inside"]


def test_who_closes_the_gate_waits_until_everybody_is_out(beside):
    gate, steps = Gate(), []
    inside, go_on = threading.Event(), threading.Event()

    def stay():
        with gate:
            inside.set()
            assert go_on.wait(TIMEOUT)
            steps.append("out")

    def close():
        gate.close()
        steps.append("closed")

    beside(stay)
    assert inside.wait(TIMEOUT)
    closing = beside(close)
    wait_for(lambda: gate._closed)
    go_on.set()
    closing.join(TIMEOUT)

    assert steps == ["out", "closed"]


def test_who_closes_the_gate_may_be_inside(beside):
    gate, steps = Gate(), []
    gate.PATIENCE = LONG

    def close_inside():
        with gate:
            gate.close()
            with gate:  # it is in already
                steps.append("in twice")
            gate.open()
        with gate:
            steps.append("in again")

    beside(close_inside).join(TIMEOUT)

    assert steps == ["in twice", "in again"]


def test_a_thread_inside_may_come_in_again_though_the_gate_is_being_closed(beside):
    gate, steps = Gate(), []
    inside = threading.Event()

    def come_in_twice():
        with gate:
            inside.set()
            wait_for(lambda: gate._closed)
            with gate:
                steps.append("in twice")
            steps.append("in once")

    coming = beside(come_in_twice)
    assert inside.wait(TIMEOUT)
    gate.close()
    steps.append("closed")
    coming.join(TIMEOUT)

    assert steps == ["in twice", "in once", "closed"]


def test_a_gate_does_not_wait_for_ever(beside):
    gate = Gate()
    gate.PATIENCE = 0.01
    inside, go_on = threading.Event(), threading.Event()

    def stay():
        with gate:
            inside.set()
            assert go_on.wait(TIMEOUT)

    beside(stay)
    assert inside.wait(TIMEOUT)

    gate.close()

    go_on.set()
    gate.open()


def test_who_leaves_by_an_error_is_out(beside):
    gate = Gate()
    gate.PATIENCE = LONG

    with pytest.raises(LookupError):
        with gate:
            raise LookupError()

    beside(gate.close).join(TIMEOUT)
    gate.open()


# A worker


class Work(Worker):
    """Runs what it is given, once for each time that it begins; then it waits for its end."""

    def __init__(self, *runs, name="worker"):
        super().__init__(name)
        self.runs = list(runs)
        self.woken = threading.Event()
        self.began = threading.Event()

    def run(self):
        if self.runs:
            self.runs.pop(0)()
        self.began.set()
        self.woken.wait(TIMEOUT)

    def wake(self):
        self.woken.set()


def refuse():
    raise LookupError("a mistake")


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    """A worker that fails begins again at once."""
    monkeypatch.setattr(threads, "Backoff", lambda: Backoff(0.0001))


@pytest.fixture
def started():
    """Starts workers, which end with the test."""
    workers = []

    def start(worker):
        workers.append(worker)
        worker.start()
        return worker

    yield start
    for worker in workers:
        worker.stop()
        assert worker.join(soon())


def test_a_worker_runs_in_a_daemon_of_its_name(started):
    seen = []
    worker = started(Work(lambda: seen.append(threading.current_thread())))
    assert worker.began.wait(TIMEOUT)

    assert [(thread.name, thread.daemon) for thread in seen] == [("worker", True)]
    assert worker.alive
    assert (worker.ended, worker.error, worker.mistake) == (False, None, None)


def test_the_name_of_a_thread_is_safe_to_show(started):
    seen = []
    worker = started(Work(lambda: seen.append(threading.current_thread().name), name="a\x1b[2J"))
    assert worker.began.wait(TIMEOUT)

    assert seen == ["a\\x1b[2J"]
    assert worker.name == "a\x1b[2J"


def test_a_worker_that_is_stopped_is_woken_and_ends(started):
    worker = started(Work())
    assert worker.began.wait(TIMEOUT)

    worker.stop()

    assert worker.join(soon())
    assert (worker.alive, worker.stopping, worker.ended) == (False, True, False)


def test_a_worker_may_be_stopped_twice_and_before_it_starts():
    worker = Work()

    worker.stop()
    worker.stop()

    assert worker.join(0)
    assert not worker.alive
    assert not worker.ended


def test_a_worker_starts_once(started):
    worker = started(Work())

    with pytest.raises(AssertionError, match="once"):
        worker.start()


@pytest.mark.parametrize("error", [LookupError, SystemExit, GeneratorExit, KeyboardInterrupt])
def test_no_error_ends_a_worker(started, caplog, error):
    def leave():
        raise error("a mistake")

    worker = started(Work(leave, leave))

    assert worker.began.wait(TIMEOUT)
    assert worker.alive
    assert type(worker.error) is error
    assert worker.mistake == "worker failed and began again: {}: a mistake".format(error.__name__)
    logged = [record for record in caplog.records if "worker failed" in record.message]
    assert len(logged) == 2
    assert logged[0].exc_info[0] is error


def test_a_mistake_is_forgotten_when_it_was_long_ago(started, monkeypatch):
    worker = started(Work(refuse))
    assert worker.began.wait(TIMEOUT)

    monkeypatch.setattr(threads, "REMEMBERED", -1)

    assert worker.mistake is None
    assert str(worker.error) == "a mistake"


def test_the_pauses_between_its_failures_grow(started, monkeypatch):
    pauses = []

    class Remembered(Backoff):
        def __iter__(self):
            for pause in super().__iter__():
                pauses.append(pause)
                yield pause

    monkeypatch.setattr(threads, "Backoff", lambda: Remembered(0.0001, 0.0004))
    worker = started(Work(*[refuse] * 4))

    assert worker.began.wait(TIMEOUT)
    assert len(pauses) == 4
    assert pauses[0] <= 0.0001 < 0.0002 <= pauses[3]


def test_a_worker_that_is_stopped_does_not_finish_its_pause(started, monkeypatch):
    monkeypatch.setattr(threads, "Backoff", lambda: Backoff(LONG * 2))
    worker = started(Work(refuse))
    wait_for(lambda: worker.error)

    worker.stop()

    assert worker.join(soon())


def test_what_fails_while_it_is_stopped_does_not_begin_again(started):
    stopping = threading.Event()

    def fail_late():
        assert stopping.wait(TIMEOUT)
        refuse()

    worker = started(Work(fail_late))
    worker.stop()
    stopping.set()

    assert worker.join(soon())
    assert not worker.began.is_set()


def test_who_waits_for_a_worker_is_told_whether_it_ended(started):
    worker = started(Work())

    assert not worker.join(time.monotonic())

    worker.stop()
    assert worker.join(soon())


def test_a_worker_cannot_wait_for_itself(started):
    found = []
    worker = Work(lambda: found.append((worker.current, worker.join(soon()))))
    started(worker)
    assert worker.began.wait(TIMEOUT)

    assert found == [(True, True)]
    assert not worker.current


def test_a_worker_that_ends_by_itself_is_noticed(started):
    worker = Work()
    worker.woken.set()
    started(worker)

    wait_for(lambda: not worker.alive)
    assert worker.ended


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork()")
def test_a_worker_of_the_parent_is_not_alive_in_a_child(started, monkeypatch):
    worker = started(Work())
    assert worker.began.wait(TIMEOUT)
    here = os.getpid()

    monkeypatch.setattr(os, "getpid", lambda: here + 1)  # as after a fork that ran no hooks

    assert not worker.alive
    assert worker.ended
    monkeypatch.undo()
    assert worker.alive
