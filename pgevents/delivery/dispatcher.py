"""The threads that call listeners, and the bounded queue before them."""

import queue
import threading
import time
from typing import Any, Callable, List, Optional

from ..events.entry import Entry
from ..threads import Worker

QUEUE_SIZE = 2000  # events waiting before the reader has to wait, too
PAGE = 500  # events that go through the queue together, at most
LOOK = 1.0  # seconds between two looks whether a listener of a former dispatcher has returned
LANE_SIZE = 4  # pages waiting for one of several workers

Deliver = Callable[[List[Entry]], Any]


class Lane(Worker):
    """A thread with a queue of pages: ``deliver(page)`` is called for one after the other."""

    def __init__(self, name: str, deliver: Deliver, size: int) -> None:
        super().__init__(name)
        self._deliver = deliver
        self._queue: "queue.Queue[Optional[List[Entry]]]" = queue.Queue(size)
        self._ending = False
        self._delivering = False
        self._put = 0  # pages
        self._done = 0
        self._changed = threading.Condition()

    def run(self) -> None:
        while not (self._ending and self._queue.empty()):
            page = self._queue.get()
            if page is not None:
                self._delivering = True
                try:
                    self._deliver(page)
                finally:  # whoever waits for it must not wait for ever
                    self._delivering = False
                    with self._changed:
                        self._done += 1
                        self._changed.notify_all()

    def offer(self, page: List[Entry], timeout: float) -> bool:
        """Put a page on the queue; tell whether there was room within ``timeout`` seconds."""
        try:
            self._queue.put(page, timeout=timeout)
        except queue.Full:
            return False
        self._put += 1
        return True

    def put(self, page: List[Entry]) -> None:
        """Put a page on the queue, however long there is no room."""
        self._queue.put(page)
        self._put += 1

    def finish(self) -> None:
        """Let it end after what is in the queue, and return at once."""
        self._ending = True
        try:
            self._queue.put_nowait(None)  # it may be asleep before an empty queue
        except queue.Full:
            pass

    def wait_idle(self, deadline: Optional[float] = None) -> bool:
        """Wait until everything put so far was delivered; tell whether it was in time."""
        timeout = None if deadline is None else max(0.0, deadline - time.monotonic())
        put = self._put
        with self._changed:
            return self._changed.wait_for(lambda: self._done >= put, timeout)

    @property
    def waiting(self) -> int:
        """How many events are in the queue."""
        with self._queue.mutex:
            return sum(len(page) for page in self._queue.queue if page is not None)

    @property
    def delivering(self) -> int:
        """How many pages are being delivered at this moment."""
        return int(self._delivering and self.alive)


class Dispatcher(Lane):
    """Takes pages off the queue and has their events delivered, in order.

    With ``workers`` above 1 the events are spread over as many lanes by their
    key, so that those of one row keep their order. An event whose order
    matters to more than one key (TRUNCATE, a changed key) waits until the
    lanes are empty, and goes alone.

    Nothing is delivered before all of ``former`` has ended: its last listener may still run.
    """

    def __init__(
        self,
        name: str,
        deliver: Deliver,
        queue_size: int,
        workers: int,
        former: Optional["Dispatcher"] = None,
    ) -> None:
        self._former = former
        page = min(PAGE, queue_size)
        super().__init__(name, deliver if workers == 1 else self._spread, queue_size // page)
        self._page = page
        self._straight = deliver
        self._lanes = (
            []
            if workers == 1
            else [Lane(f"{name}-{n}", deliver, LANE_SIZE) for n in range(1, workers + 1)]
        )

    def start(self) -> None:
        for lane in self._lanes:
            lane.start()
        super().start()

    def run(self) -> None:
        former = self.former
        while former is not None:
            former.join(time.monotonic() + LOOK)
            former = self.former
        super().run()
        for lane in self._lanes:
            lane.finish()

    @property
    def former(self) -> Optional["Dispatcher"]:
        """The one whose listeners have to return first; None when all of them have."""
        former = self._former
        if former is not None and not former.works:
            former = self._former = None
        return former

    @property
    def works(self) -> bool:
        """Whether a thread of it runs, in this process."""
        return any(thread.alive for thread in self.threads)

    def offer_all(self, events: List[Entry], timeout: float) -> bool:
        """Put events on the queue in pages; remove from ``events`` what has been put."""
        while events:
            if not self.offer(events[: self._page], timeout):
                return False
            del events[: self._page]
        return True

    def wait_idle(self, deadline: Optional[float] = None) -> bool:
        return super().wait_idle(deadline) and all(lane.wait_idle(deadline) for lane in self._lanes)

    def join(self, deadline: float) -> bool:
        ended = super().join(deadline)
        return all([lane.join(deadline) for lane in self._lanes]) and ended

    @property
    def waiting(self) -> int:
        return super().waiting + sum(lane.waiting for lane in self._lanes)

    @property
    def delivering(self) -> int:
        return super().delivering + sum(lane.delivering for lane in self._lanes)

    @property
    def threads(self) -> List[Worker]:
        """The dispatcher itself, and its lanes."""
        return [self, *self._lanes]

    @property
    def current(self) -> bool:
        # Who calls from a listener that we wait for would wait for itself, too.
        former = self.former
        return (
            super().current
            or any(lane.current for lane in self._lanes)
            or (former is not None and former.current)
        )

    def _spread(self, page: List[Entry]) -> None:
        lanes = self._lanes
        shares: List[List[Entry]] = [[] for _ in lanes]
        for event in page:
            place = self._lane(event)
            if place is None:
                self._give(shares)
                for lane in lanes:
                    lane.wait_idle()
                self._straight([event])
            else:
                shares[place].append(event)
        self._give(shares)

    def _give(self, shares: List[List[Entry]]) -> None:
        for lane, share in zip(self._lanes, shares):
            if share:
                lane.put(share[:])
                share.clear()

    def _lane(self, event: Entry) -> Optional[int]:
        """Choose a lane; None where the order matters to more than one."""
        try:
            shared = event.lane
            return None if shared is None else hash(shared) % len(self._lanes)
        except Exception:  # a row that cannot be read, as JSON nested ten thousand times
            return None
