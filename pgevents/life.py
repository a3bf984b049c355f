"""The life of a hub: its threads start, stop, and start again in a forked child.

start()   launch ─▶ source ─▶ dispatcher ─▶ listeners      housekeeper, groups
poll()    reader ─▶ delivery ─▶ listeners                  in the caller's own thread
stop()    the source stops reading, the dispatcher finishes, all threads end
fork      in the child the same again, by a reader that goes on at the same place
"""

import atexit
import logging
import os
import threading
import time
import weakref
from typing import Any, List, Optional, Sequence, Set, Tuple

from .capture.housekeeper import Housekeeper
from .channels.mover import Mover
from .channels.native import Notification
from .database.reader import Reader
from .delivery.delivery import Delivery
from .delivery.dispatcher import Dispatcher
from .delivery.source import Source, TooLate
from .errors import Unavailable, UsageError
from .groups.box import Box
from .listening.listener import Listener
from .parts import Parts
from .threads import Worker

logger = logging.getLogger("pgevents")

START_TIMEOUT = 60.0  # seconds; longer than the tables' locks are tried for on a quiet day
EMPTY = 0.1  # seconds that threads with nothing to do may take to end
REASON_TIMEOUT = 0.5  # extra seconds for start() to fetch the error of an attempt that was too late
STILL_RUNS = (
    "a listener that was running when the hub was stopped still runs: the others are called when it"
    " has returned"
)
MOVER_PATIENCE = 1.0  # seconds that stop() waits for a delayed message to be moved
LISTEN_TIMEOUT = 10.0  # seconds that who listens to a native channel waits for the server
EXIT_TIMEOUT = 2.0  # seconds that the interpreter's exit waits for a listener


class Life:
    """Starts and stops the threads of one hub; or polls, without threads.

    While it runs, the registry calls ``listener_added()``, ``listeners_leave()`` and
    ``listener_ready()``.
    """

    def __init__(self, parts: Parts) -> None:
        self._parts = parts
        self._backend = parts.backend
        self._registry = parts.registry
        self._groups = parts.groups
        self.pid = os.getpid()
        self._lock = threading.RLock()  # guards start, stop and the fields below
        self._polling = threading.RLock()  # one thread polls, the others wait for their turn
        self.source: Optional[Source] = None
        self.dispatcher: Optional[Dispatcher] = None
        self.housekeeper: Optional[Housekeeper] = None
        self.mover: Optional[Mover] = None
        self._delivery: Optional[Delivery] = None
        self._reader: Optional[Reader] = None  # of poll()
        self._former: Optional[Dispatcher] = None  # stop() may not have waited for its listeners
        _lives.add(self)

    # With threads.

    def start(self, wait: bool, timeout: float) -> None:
        """Start the threads: see ``Hub.start()``."""
        self.notice_fork()
        with self._lock:
            running = self.source
            if running is None:
                if self._reader is not None:
                    self._reader.close()  # start() begins where poll() has stopped
                self._registry.attach(self)
                self._parts.upkeep.asked = True
                start_by = time.monotonic() + timeout if wait else None
                source = self._launch(self._reader or self._backend.reader(), start_by)
                self._reader = None
        if running is not None:
            self._join_start(running, wait, timeout)
            return
        if wait:
            # The source gives up, and knows why, at the very end of that time.
            error = source.wait_first(timeout + REASON_TIMEOUT)
            if not source.connected:
                self.stop(timeout=EMPTY)
                raise error or Unavailable(f"not connected within {timeout:g} s")
        self._parts.reporter.started()

    def stop(self, timeout: float) -> int:
        """End the threads: see ``Hub.stop()``."""
        self.notice_fork()
        deadline = time.monotonic() + max(timeout, EMPTY)
        with self._lock:
            source, self.source = self.source, None
            dispatcher, housekeeper = self.dispatcher, self.housekeeper
            delivery, reader = self._delivery, self._reader
            mover, self.mover = self.mover, None
            self.dispatcher = self.housekeeper = self._delivery = self._reader = None
            self._groups.close()
        if reader is not None:
            self._registry.detach(self)
            reader.end()
        if source is None or dispatcher is None or housekeeper is None or delivery is None:
            self._groups.stop(deadline)  # a question about groups may have opened connections
            return 0
        self._registry.detach(self)
        housekeeper.stop()
        self._groups.halt()
        if mover is not None:
            mover.stop()
            # Before the pool that it uses is closed; but a server that does not answer is not
            # waited for, since what was not moved waits in the database.
            mover.join(min(deadline, time.monotonic() + MOVER_PATIENCE))
        finished = self._groups.stop(deadline)
        source.stop()
        source.join(deadline)
        dispatcher.finish()
        left = 0
        self._former = dispatcher
        # A listener cannot wait for itself: the others are not waited for, either.
        # The source may have used the time up: one that has nothing to do ends all the same.
        if not dispatcher.current and not dispatcher.join(max(deadline, time.monotonic() + EMPTY)):
            left = dispatcher.waiting + dispatcher.delivering
            delivery.stop.set()
        if left:
            logger.warning(
                "stopped after %.1f s with %d or more events taken but not handled", timeout, left
            )
        if not finished:
            logger.warning("stopped after %.1f s while a group's listener was running", timeout)
        housekeeper.join(deadline)
        self._backend.dispose()
        self._backend.warnings.clear()
        self._parts.reporter.stopped()
        return left

    def wait_ready(self, timeout: float) -> bool:
        """Wait until the hub listens; return whether it does."""
        return self._running("wait_ready()").wait_connected(timeout)

    def drain(self, timeout: float) -> bool:
        """Wait until all that is committed now was handled: see ``Hub.drain()``."""
        deadline = time.monotonic() + timeout
        source, dispatcher = self._running("drain()"), self.dispatcher
        if dispatcher is None:
            return False
        if dispatcher.current:
            raise UsageError("a listener cannot drain() its own hub: it would wait for itself")
        return (
            source.catch_up(timeout)
            and dispatcher.wait_idle(deadline)
            and self._groups.drain(deadline)
        )

    def threads(self) -> List[Worker]:
        """Return all threads that work for this hub."""
        dispatcher = self.dispatcher
        lanes = [] if dispatcher is None else dispatcher.threads
        threads = [self.source, *lanes, self.housekeeper, self.mover, *self._groups.threads()]
        return [thread for thread in threads if thread is not None]

    def _join_start(self, source: Source, wait: bool, timeout: float) -> None:
        """Wait for the start that another thread has begun."""
        if wait and not source.current:  # a receiver of ``connected`` is called by the source
            error = source.wait_first(timeout)
            if error is not None and source.gave_up:
                raise error

    def _running(self, what: str) -> Source:
        self.notice_fork()
        source = self.source
        if source is None:
            raise UsageError(f"{what} needs a hub that is started")
        return source

    def _launch(self, reader: Reader, start_by: Optional[float] = None) -> Source:
        """Make the threads and start them; ``reader`` goes on where it is.

        The source tries to connect for ever, or until ``start_by``.
        """
        parts, settings, chores = self._parts, self._parts.settings, self._parts.chores
        self._delivery = parts.delivery()
        self.housekeeper = Housekeeper(
            "pgevents-housekeeper",
            chores.interval,
            self._prepared,
            self._backend.warnings,
            chores.check_capture,
            chores.clean,
            chores.expire,
            chores.forget,
        )
        self.mover = Mover(
            "pgevents-mover", parts.publisher.move, self._prepared, self._backend.warnings
        )
        self.dispatcher = Dispatcher(
            "pgevents-dispatcher",
            self._delivery,
            settings.queue_size,
            settings.workers,
            self._former,
        )
        self._former = None
        if self.dispatcher.former is not None:
            logger.warning("%s", STILL_RUNS)
        self.source = Source(
            "pgevents-source",
            reader,
            parts.intake,
            self.dispatcher,
            host=self,
            reporter=parts.reporter,
            behind_after=settings.behind_after,
            start_by=start_by,
        )
        self._groups.open()
        self.dispatcher.start()
        self.source.start()
        self.housekeeper.start()
        self.mover.start()
        return self.source

    def _prepared(self) -> bool:
        """Return whether all is installed, and the place from which on we read is known."""
        source = self.source
        return source is not None and source.prepared

    # Called by the source.

    def prepare(self, start_by: Optional[float] = None) -> None:
        """Check what is listened to against the database, and install what is missing."""
        with self._backend.session(start_by):
            if start_by is not None and time.monotonic() > start_by:
                raise TooLate("connected too late: start() has given up")
            self._parts.upkeep.begin(start_by)
        source = self.source
        if source is not None:
            self._groups.start(source.reader.owner)

    def wake_streams(self) -> None:
        """Let the threads of groups that read streams look whether there is something for them."""
        self._groups.wake_streams()
        mover = self.mover
        if mover is not None:
            mover.wake()

    def wake_groups(self) -> None:
        """Let the groups' threads look whether there is something for them."""
        self._groups.wake()

    def check_capture(self) -> None:
        """Let the housekeeper look whether tables were altered."""
        housekeeper = self.housekeeper
        if housekeeper is not None:
            housekeeper.wake()

    # Without threads.

    def poll(self, timeout: float) -> int:
        """Call the listeners in the caller's thread: see ``Hub.poll()``."""
        self.notice_fork()
        if self.source is not None:
            raise UsageError("the hub is started: its own threads call the listeners")
        deadline = time.monotonic() + timeout
        if not self._polling.acquire(timeout=max(0.0, timeout)):
            return 0
        try:
            return self._poll(deadline)
        finally:
            self._polling.release()

    def _poll(self, deadline: float) -> int:
        former = self._former
        if former is not None and not former.current and not former.join(deadline):
            return 0
        self._former = None
        if self._reader is None:
            self._reader = self._open_for_poll()
        reader, delivery = self._reader, self._delivery or self._parts.delivery()
        self._delivery, intake = delivery, self._parts.intake
        handled = 0
        try:
            if not reader.is_open:
                reader.open()
            while True:
                reader.listen(intake.native)
                rows = reader.read()
                handled += delivery([Notification(*one) for one in reader.notifications()])
                reason = reader.missed()
                if reason is not None:
                    self._parts.reporter.gap(reason)
                if rows:
                    intake.look_up(intake.unknown(rows))
                    handled += delivery(intake.events(rows))
                    continue
                left = deadline - time.monotonic()
                if handled or left <= 0:
                    return handled
                reader.wait(left)
        except Unavailable:
            reader.close()
            raise

    def _open_for_poll(self) -> Reader:
        for listener, _ in self._registry.all():
            _refuse_group(listener)
        self._registry.attach(self)
        self._parts.upkeep.asked = True
        self.prepare()
        return self._backend.reader()

    @property
    def connected(self) -> bool:
        """Whether the hub receives what is committed now."""
        source = self.source
        return source is not None and source.connected

    def box(self, group: str, channels: Sequence[str], *how: Any) -> Box:
        """Return the messages of a group: see ``Hub.messages()``."""
        if not channels:
            raise UsageError('no channel given: name one, or a pattern such as "orders.*"')
        source = self._running("messages()")
        return self._groups.box(group, channels, source.reader.owner, *how)

    # Called by the registry.

    def listener_added(self, listener: Listener, moments: Tuple[str, ...]) -> None:
        """Install what a new listener needs, before it gets events."""
        source = self.source
        if source is None and self._reader is not None:
            _refuse_group(listener)
        if (source is None and self._reader is None) or listener.target is None:
            return
        try:
            with self._backend.session():
                self._parts.upkeep.add(listener, listener.target, moments)
        except Unavailable:
            # What is registered before the first connection is installed by it.
            if source is None or source.prepared:
                raise

    def listeners_leave(self, leaving: Set[Listener], moments: Tuple[str, ...]) -> None:
        """End the groups' threads that call these listeners, before they get no more events."""
        if self.source is not None:
            self._groups.leave(leaving, moments)

    def listener_ready(self, listener: Listener) -> None:
        """Start the thread of the listener's group: it can get events now, or it has left."""
        source = self.source
        if source is not None and listener.native is not None and not source.current:
            if not source.wait_listening(listener.native, LISTEN_TIMEOUT):
                raise Unavailable(f"PostgreSQL has not answered for {LISTEN_TIMEOUT:.0f} s")
        if source is None or listener.group is None:
            return
        try:
            self._groups.start(source.reader.owner)
        except Unavailable:
            # The first connection starts the groups of all who are registered before it.
            if source.prepared:
                raise

    # Forks.

    def notice_fork(self) -> None:
        """Begin again where this is a child: uWSGI does not call Python's hooks for forks."""
        if self.pid != os.getpid():
            self._begin_again()

    def _begin_again(self) -> None:
        """In a child: leave the parent's connection and threads alone, and make our own."""
        self.pid = os.getpid()
        self._lock = threading.RLock()
        self._polling = threading.RLock()
        source, self.source = self.source, None
        reader, self._reader = self._reader, None
        self.dispatcher = self.housekeeper = self.mover = self._delivery = self._former = None
        self._parts.after_fork()
        if reader is not None:
            self._reader = reader.copy()
            reader.abandon()
        if source is not None:
            copy = source.reader.copy()
            source.reader.abandon()
            self._launch(copy)


def _refuse_group(listener: Listener) -> None:
    if listener.group is not None:
        raise UsageError(
            f"{listener.name} listens in the group {listener.group!r}, which needs threads of its"
            " own: start() the hub instead of poll(), or give it a registry without groups"
        )


_lives: "weakref.WeakSet[Life]" = weakref.WeakSet()
_held: List[Any] = []  # the registries' locks, while the process forks


def _before_fork() -> None:
    # A registry must not be copied in the middle of a change.
    for registry in {life._registry for life in list(_lives)}:
        registry.lock.acquire()
        _held.append(registry.lock)
    for life in list(_lives):
        life._backend.before_fork()


def _in_parent() -> None:
    for life in list(_lives):
        life._backend.after_fork()
    _release()


def _release() -> None:
    while _held:
        _held.pop().release()


def _in_child() -> None:
    _release()
    for life in list(_lives):
        life.notice_fork()


def _at_exit() -> None:
    for life in list(_lives):
        if life.pid == os.getpid():
            life.stop(EXIT_TIMEOUT)


if hasattr(os, "register_at_fork"):
    os.register_at_fork(before=_before_fork, after_in_parent=_in_parent, after_in_child=_in_child)
atexit.register(_at_exit)
