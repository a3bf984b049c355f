"""The queue before the threads that call listeners, and how events are spread over several.

Without a database: the events are invented by a FakeHub.
"""

import threading
import time

import pytest

from pgevents import Registry, threads
from pgevents.delivery.dispatcher import LANE_SIZE, PAGE, Dispatcher, Lane
from pgevents.retry import Backoff
from pgevents.testing import FakeHub

from .waiting import TIMEOUT, wait_for


def soon():
    return time.monotonic() + TIMEOUT


def orders(*ids):
    """Events of inserts into a table, in one page."""
    return FakeHub(Registry()).insert("orders", *({"id": one} for one in ids))


class Delivered:
    """What is delivered, in order; it waits as long as the door is closed."""

    def __init__(self, door_open=True):
        self.pages = []
        self.began = threading.Semaphore(0)
        self.door = threading.Event()
        if door_open:
            self.door.set()

    def __call__(self, page):
        self.began.release()
        assert self.door.wait(TIMEOUT)
        self.pages.append((threading.current_thread().name, [event.key for event in page]))

    @property
    def keys(self):
        return [key for _, keys in self.pages for key in keys]


@pytest.fixture
def delivered():
    return Delivered()


@pytest.fixture
def slow():
    """A delivery that waits until its door is opened."""
    slow = Delivered(door_open=False)
    yield slow
    slow.door.set()


@pytest.fixture
def made():
    """Makes lanes and dispatchers that end with the test."""
    lanes = []

    def make(kind, *arguments):
        lane = kind("lane", *arguments)
        lanes.append(lane)
        return lane

    yield make
    for lane in lanes:
        lane.finish()
        assert lane.join(soon())


# One lane


def test_pages_are_delivered_one_after_the_other(made, delivered):
    lane = made(Lane, delivered, 3)
    for n in range(3):
        assert lane.offer(orders(n), 0)

    lane.start()

    assert lane.wait_idle(soon())
    assert [keys for _, keys in delivered.pages] == [[0], [1], [2]]


def test_a_full_lane_takes_no_page(made, delivered):
    lane = made(Lane, delivered, 2)
    lane.put(orders(1))
    lane.put(orders(2))

    assert not lane.offer(orders(3), 0)

    lane.start()
    assert lane.wait_idle(soon())
    assert lane.offer(orders(4), TIMEOUT)
    assert lane.wait_idle(soon())
    assert delivered.keys == [1, 2, 4]


def test_events_that_wait_are_counted_and_pages_that_are_delivered(made, slow):
    lane = made(Lane, slow, 3)
    lane.put(orders(1))
    lane.start()
    assert slow.began.acquire(timeout=TIMEOUT)
    lane.put(orders(2, 3))
    lane.put(orders(4))

    assert (lane.waiting, lane.delivering) == (3, 1)

    slow.door.set()
    assert lane.wait_idle(soon())
    assert (lane.waiting, lane.delivering) == (0, 0)


def test_a_lane_is_idle_when_all_that_was_put_is_delivered(made, slow):
    lane = made(Lane, slow, 3)
    assert lane.wait_idle(0)
    lane.put(orders(1))
    lane.start()

    assert not lane.wait_idle(0)

    slow.door.set()
    assert lane.wait_idle(soon())
    assert slow.keys == [1]


def test_who_waits_for_a_page_does_not_wait_for_ever_when_its_delivery_fails(
    made, delivered, monkeypatch
):
    monkeypatch.setattr(threads, "Backoff", lambda: Backoff(0.001))
    failures = [LookupError("a mistake")]

    def fail_once(page):
        if failures:
            raise failures.pop()
        delivered(page)

    lane = made(Lane, fail_once, 3)
    lane.put(orders(1))
    lane.put(orders(2))
    lane.start()

    assert lane.wait_idle(soon())
    assert delivered.keys == [2]
    assert str(lane.error) == "a mistake"


@pytest.mark.parametrize("pages", [0, 1, 3], ids=["empty", "with room", "full"])
def test_a_lane_that_shall_finish_delivers_what_it_has_and_ends(made, delivered, pages):
    lane = made(Lane, delivered, 3)
    for n in range(pages):
        lane.put(orders(n))
    lane.finish()

    lane.start()

    assert lane.join(soon())
    assert delivered.keys == list(range(pages))
    assert not lane.alive


def test_a_lane_that_sleeps_ends_when_it_shall_finish(made, delivered):
    lane = made(Lane, delivered, 3)
    lane.start()
    lane.put(orders(1))
    assert lane.wait_idle(soon())

    lane.finish()

    assert lane.join(soon())


# The dispatcher's queue


def test_events_go_through_the_queue_in_pages(made, delivered):
    dispatcher = made(Dispatcher, delivered, 4 * PAGE, 1)
    events = orders(*range(2 * PAGE + 1))

    assert dispatcher.offer_all(events, 0)

    assert events == []
    dispatcher.start()
    assert dispatcher.wait_idle(soon())
    assert [len(keys) for _, keys in delivered.pages] == [PAGE, PAGE, 1]
    assert delivered.keys == [*range(2 * PAGE + 1)]


def test_events_for_which_there_is_no_room_stay_with_who_offers_them(made, delivered):
    dispatcher = made(Dispatcher, delivered, 2 * PAGE, 1)
    events = orders(*range(3 * PAGE))

    assert not dispatcher.offer_all(events, 0)

    assert [event.key for event in events] == [*range(2 * PAGE, 3 * PAGE)]
    assert dispatcher.waiting == 2 * PAGE


@pytest.mark.parametrize("size", [1, 7])
def test_a_small_queue_has_one_small_page(made, delivered, size):
    dispatcher = made(Dispatcher, delivered, size, 1)
    events = orders(*range(size + 1))

    assert not dispatcher.offer_all(events, 0)

    assert dispatcher.waiting == size
    assert [event.key for event in events] == [size]


def test_with_one_worker_the_dispatcher_itself_delivers(made, delivered):
    dispatcher = made(Dispatcher, delivered, PAGE, 1)
    dispatcher.start()
    dispatcher.offer_all(orders(1), 0)

    assert dispatcher.wait_idle(soon())
    assert dispatcher.threads == [dispatcher]
    assert delivered.pages == [("lane", [1])]


# Several workers


@pytest.fixture
def spread(made):
    """Makes a dispatcher with four workers, started."""

    def start(deliver):
        dispatcher = made(Dispatcher, deliver, PAGE, 4)
        dispatcher.start()
        return dispatcher

    return start


def test_the_events_of_one_row_keep_their_order_in_one_lane(spread, delivered):
    dispatcher = spread(delivered)
    for _ in range(3):
        dispatcher.offer_all(orders(*range(20)), TIMEOUT)
    assert dispatcher.wait_idle(soon())

    lanes = {}
    for lane, keys in delivered.pages:
        for key in keys:
            lanes.setdefault(key, set()).add(lane)

    assert sorted(delivered.keys) == sorted([*range(20)] * 3)
    assert all(len(names) == 1 for names in lanes.values())
    assert set.union(*lanes.values()) <= {"lane-1", "lane-2", "lane-3", "lane-4"}
    assert len(set.union(*lanes.values())) > 1


def test_one_lane_that_waits_does_not_keep_the_others_from_going_on(spread):
    go_on, done = threading.Event(), []

    def deliver(page):
        for event in page:
            if event.key == 0:
                assert go_on.wait(TIMEOUT)
            done.append(event.key)
            if len(done) == 5:
                go_on.set()

    dispatcher = spread(deliver)
    lane = dispatcher._lane(orders(0)[0])
    others = [n for n in range(1, 100) if dispatcher._lane(orders(n)[0]) != lane][:5]
    dispatcher.offer_all(orders(0, *others), TIMEOUT)

    assert dispatcher.wait_idle(soon())
    assert done[-1] == 0
    assert sorted(done[:-1]) == others


class Unreadable:
    """A key that raises, as one in JSON does that is nested too deeply for Python."""

    def __repr__(self):
        raise RecursionError("too deep")


@pytest.mark.parametrize(
    "alone",
    [
        lambda: FakeHub(Registry()).truncate("orders")[0],
        lambda: FakeHub(Registry()).update("orders", {"id": 1}, {"id": 2})[0],
        lambda: orders(Unreadable())[0],
    ],
    ids=["truncate", "a changed key", "unreadable"],
)
def test_an_event_whose_order_matters_to_several_rows_goes_alone(spread, alone):
    steps, lock = [], threading.Lock()

    def deliver(page):
        name = threading.current_thread().name
        with lock:
            steps.extend((name, event) for event in page)

    dispatcher = spread(deliver)
    before, event, after = orders(*range(20)), alone(), orders(*range(20))
    dispatcher.offer_all([*before, event, *after], TIMEOUT)

    assert dispatcher.wait_idle(soon())
    assert steps[20] == ("lane", event)
    assert {id(event) for _, event in steps[:20]} == {id(event) for event in before}
    assert {id(event) for _, event in steps[21:]} == {id(event) for event in after}


def test_all_lanes_count_together(spread, slow):
    dispatcher = spread(slow)
    lane = dispatcher._lane(orders(0)[0])
    other = next(n for n in range(1, 100) if dispatcher._lane(orders(n)[0]) != lane)
    dispatcher.offer_all(orders(0, other), TIMEOUT)
    assert slow.began.acquire(timeout=TIMEOUT) and slow.began.acquire(timeout=TIMEOUT)
    dispatcher.offer_all(orders(0, 0, other), TIMEOUT)

    lanes = dispatcher.threads[1:]
    wait_for(lambda: sum(one.waiting for one in lanes) == 3 and dispatcher.delivering == 2)
    assert dispatcher.waiting == 3
    assert not dispatcher.wait_idle(0)

    slow.door.set()
    assert dispatcher.wait_idle(soon())
    assert (dispatcher.waiting, dispatcher.delivering) == (0, 0)
    assert sorted(slow.keys) == sorted([0, 0, 0, other, other])


def test_its_threads_are_itself_and_its_lanes_and_end_together(spread, delivered):
    dispatcher = spread(delivered)

    assert [thread.name for thread in dispatcher.threads] == [
        "lane",
        "lane-1",
        "lane-2",
        "lane-3",
        "lane-4",
    ]
    assert all(thread.alive for thread in dispatcher.threads)
    dispatcher.finish()
    assert dispatcher.join(soon())
    assert not any(thread.alive for thread in dispatcher.threads)


def test_who_waits_for_its_end_waits_for_its_lanes(spread, slow):
    dispatcher = spread(slow)
    dispatcher.offer_all(orders(1), TIMEOUT)
    assert slow.began.acquire(timeout=TIMEOUT)
    dispatcher.finish()
    wait_for(lambda: not dispatcher.alive)

    assert not dispatcher.join(0)

    slow.door.set()
    assert dispatcher.join(soon())


def test_a_thread_of_any_lane_is_the_dispatchers(spread):
    current = []
    dispatcher = spread(lambda page: current.append(dispatcher.current))
    dispatcher.offer_all(orders(1), TIMEOUT)

    assert dispatcher.wait_idle(soon())
    assert current == [True]
    assert not dispatcher.current


def test_a_full_lane_makes_the_dispatcher_wait(spread, slow):
    dispatcher = spread(slow)
    pages = LANE_SIZE + 2  # one is delivered, one is in the dispatcher's hands
    for _ in range(pages):
        assert dispatcher.offer_all(orders(1), TIMEOUT)

    wait_for(lambda: (dispatcher.waiting, dispatcher.delivering) == (LANE_SIZE, 2))
    assert dispatcher.offer_all(orders(1), 0)
    assert not dispatcher.offer_all(orders(1), 0)

    slow.door.set()
    assert dispatcher.wait_idle(soon())
    assert slow.keys == [1] * (pages + 1)
