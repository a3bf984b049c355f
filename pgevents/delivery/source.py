"""The thread that reads the log, and never calls a listener."""

import logging
import threading
import time
from itertools import starmap
from typing import FrozenSet, List, Optional, Protocol

from ..channels.native import Notification
from ..database.reader import Reader
from ..discreet import discreet
from ..errors import NotInstalled, PgEventsError, Unavailable
from ..events.entry import Entry
from ..events.logrow import LogRow
from ..reporter import Reporter
from ..retry import Backoff
from ..threads import Worker
from .dispatcher import Dispatcher
from .intake import Intake
from .lookup import Lookup

logger = logging.getLogger("pgevents")

IDLE = 4.0  # seconds between two looks at a log where nothing happens
START_PAUSE = 1.0  # seconds between two attempts to connect while start() waits, at the most
BREATH = 1.0  # seconds between two looks at the socket while the queue is full


class TooLate(Unavailable):
    """The time of start() is over: what has kept it before is the reason to report."""


class Host(Protocol):
    """What a source asks of the hub that it reads for."""

    def prepare(self, start_by: Optional[float]) -> None:
        """Install what is missing: before the first connection, and after the log was dropped."""

    def wake_groups(self) -> None:
        """Let the groups look: there are new rows, or perhaps another database."""

    def check_capture(self) -> None:
        """Let another thread look whether tables were altered."""

    def wake_streams(self) -> None:
        """Let the threads of groups that read streams look."""


class Source(Worker):
    """Reads a log for ever, through lost connections, and puts its events on the queue.

    Rows become events in ``intake``. With ``start_by`` (``time.monotonic()``) it ends when it
    has not connected by then, or is refused for a reason that time does not mend.
    """

    def __init__(
        self,
        name: str,
        reader: Reader,
        intake: Intake,
        queue: Dispatcher,
        host: Host,
        reporter: Reporter,
        behind_after: float,
        start_by: Optional[float],
    ) -> None:
        super().__init__(name)
        self.reader = reader
        self.connected = False
        self.failure: Optional[Exception] = None  # what keeps us from reading now
        self.prepared = False
        self._intake = intake
        self._queue = queue
        self._host = host
        reader.stirred = host.wake_streams
        self._reporter = reporter
        self._behind_after = behind_after
        self._start_by = start_by
        self._rows: List[LogRow] = []  # read, but no events yet …
        self._waiting: List[Entry] = []  # … and events that had no room
        self._listening: FrozenSet[str] = frozenset()  # to these native channels
        self._progress = False  # since the last failure
        self._asked = 0
        self._answered = 0
        self._failed_once = False
        self.gave_up = False  # it has not connected, and will not try again
        self._ever_connected = False
        self._log_gone = False
        self._changed = threading.Condition()

    def run(self) -> None:
        waits = iter(Backoff())
        while not self.stopping:
            try:
                self._connect()
                self._follow()
            except Exception as error:
                if self._progress:
                    self._progress, waits = False, iter(Backoff())
                if not self.stopping:
                    self._lost(_known(error), next(waits))
        self.connected = False
        self.reader.end()

    def wake(self) -> None:
        if self.stopping:
            self.reader.interrupt()
        else:
            self.reader.wake()
        with self._changed:
            self._changed.notify_all()

    def wait_connected(self, timeout: float) -> bool:
        """Wait until it listens; return whether it does."""
        with self._changed:
            self._changed.wait_for(lambda: self.connected or self.stopping, timeout)
        return self.connected

    def wait_first(self, timeout: float) -> Optional[Exception]:
        """Wait until it listens or gives up, or without a ``start_by`` has failed once.

        Return why it does not listen, or None.
        """
        with self._changed:
            self._changed.wait_for(lambda: self.connected or self._over, timeout)
        return None if self.connected else self.failure

    @property
    def _over(self) -> bool:
        return self.gave_up or self.stopping or (self._failed_once and self._start_by is None)

    def catch_up(self, timeout: float) -> bool:
        """Wait until all that is committed at the time of the call was handed on."""
        with self._changed:
            self._asked += 1
            ticket = self._asked
        self.wake()
        with self._changed:
            self._changed.wait_for(lambda: self._answered >= ticket or self.stopping, timeout)
            return self._answered >= ticket

    def _connect(self) -> None:
        if not self.prepared:
            self._host.prepare(self._start_by)
        self.reader.deadline = self._start_by
        self.reader.open()
        self.prepared = True
        self._start_by = self.reader.deadline = None
        self.failure = None
        lost = self._listening if self._ever_connected else frozenset()
        self._listen()
        with self._changed:
            self.connected = self._ever_connected = True
            self._changed.notify_all()
        if lost:
            self._reporter.gap(
                f"the connection was lost: notifications of {', '.join(sorted(lost))} may have"
                " been sent meanwhile"
            )
        self._host.wake_groups()  # perhaps another database is there now
        self._reporter.connected()
        if self._log_gone:
            self._log_gone = False
            self.reader.missed()  # the same, in other words
            self._reporter.gap("the log was gone, and what was committed meanwhile is in no log")

    def _follow(self) -> None:
        # Read before the first wait: what was committed while we were away
        # will not be announced again.
        self._hand_on()
        while not self.stopping:
            asked = self._asked
            self._listen()
            self._rows = self.reader.read() if self._intake.wanted else self._skim()
            idle = not self._rows and not self.reader.behind
            reason = self.reader.missed()
            if reason is not None:
                self._reporter.gap(reason)
            if self.reader.altered():
                self._host.check_capture()
            self._hand_on()
            self._progress = True
            if not self.reader.behind:
                self._answer(asked)
            if idle:
                self.reader.wait(IDLE)

    def _skim(self) -> List[LogRow]:
        # Nobody here wants the rows themselves; groups read them for themselves.
        cursor = self.reader.cursor
        new = self.reader.skim()
        if self._intake.wanted:
            # Somebody began to listen meanwhile: what was committed since then is his.
            self.reader.go_back(cursor)
            return self.reader.read()
        if new:
            self._host.wake_groups()
        return []

    def _hand_on(self) -> None:
        # What is read is in nobody else's hands: it must outlive the connection.
        if self._rows:
            self._host.wake_groups()
            if not self._looked_up():
                return
            self._waiting += self._intake.events(self._rows)
            self._rows = []
        self._waiting += starmap(Notification, self.reader.notifications())
        since = time.monotonic()
        reported = False
        patience = 0.0
        while not self._queue.offer_all(self._waiting, patience) and not self.stopping:
            # A connection that is not read keeps the server from cleaning up, and writers ring
            # for a reader that has said that it sleeps.
            self.reader.breathe()
            self._listen()
            patience = BREATH
            full = time.monotonic() - since
            if full >= self._behind_after and not reported:
                reported = True
                self._reporter.fallen_behind(full)

    def wait_listening(self, channel: str, timeout: float) -> bool:
        """Wait, while it is connected, until it listens to a native channel, or does not.

        Whatever is wanted now. Tell whether it was in time.
        """
        wanted = channel in self._intake.native
        self.wake()
        with self._changed:
            return self._changed.wait_for(
                lambda: not self.connected
                or self.stopping
                or (channel in self._listening) == wanted,
                timeout,
            )

    def _listen(self) -> None:
        wanted = self._intake.native
        self.reader.listen(wanted)
        if wanted != self._listening:
            with self._changed:
                self._listening = wanted
                self._changed.notify_all()

    def _looked_up(self) -> bool:
        """Have the tables of the rows looked up that are unknown; tell whether they were.

        In another thread: a catalog that does not answer must not keep the socket from being read.
        """
        unknown = self._intake.unknown(self._rows)
        if not unknown:
            return True
        lookup = Lookup(f"{self.name}-lookup", self._intake, unknown, self.reader.wake)
        lookup.start()
        while not lookup.done and not self.stopping:
            self.reader.breathe(BREATH)
        if lookup.join(time.monotonic() + BREATH) and lookup.failure is not None:
            raise lookup.failure
        return lookup.done

    def _answer(self, asked: int) -> None:
        if self._answered < asked:
            with self._changed:
                self._answered = asked
                self._changed.notify_all()

    def _lost(self, error: Exception, pause: float) -> None:
        if self.failure is None or not isinstance(error, TooLate):
            self.failure = error
        # Somebody dropped the log, or put another database where it was.
        if isinstance(error, NotInstalled):
            self.prepared = False
            self._log_gone = self._ever_connected
        self.reader.close()
        with self._changed:
            was_connected, self.connected = self.connected, False
            self._failed_once = True
            if self._start_by is not None:
                left = self._start_by - time.monotonic()
                pause = min(pause, START_PAUSE, left)
                self.gave_up = left <= 0 or not isinstance(error, Unavailable)
            self._changed.notify_all()
        if self.gave_up:
            self.stopping = True  # start() raises it
            return
        logger.warning("%s is not connected, trying again in %.1f s: %s", self.name, pause, error)
        if was_connected:
            self._reporter.disconnected(error, pause)
        with self._changed:
            self._changed.wait_for(lambda: self.stopping, pause)


def _known(error: Exception) -> PgEventsError:
    """Return what can be reported: a mistake of ours is one more reason to begin again."""
    if isinstance(error, PgEventsError):
        return error
    logger.error("a mistake in pgevents, please report it", exc_info=discreet(error))
    return PgEventsError(f"unexpected: {error!r}")
