"""The thread that notices statements to which no answer comes, on connections that have died.

psycopg2 waits for an answer without a deadline. The kernel notices a peer that is gone,
but not a proxy or a mesh that goes on acknowledging for one. So each statement of ours is
written down while it is under way:

    no byte for SILENCE ──▶ ask the server, on another connection, what it does
        it works on that statement          wait for SILENCE more
        it does not, or nobody answers      shut the socket down: the statement fails

One thread does that for all of them, so nothing that it calls may wait without a deadline: no
code of the application runs in it, not even to find out where its Engine leads.
"""

import contextlib
import os
import socket
import struct
import threading
import time
from typing import Any, Callable, Dict, Iterator, List, Optional, Set

import psycopg2

from ..threads import Worker

TICK = 0.5  # seconds between two looks
LINGER = 10.0  # seconds without a statement after which the thread ends

#: Seconds. Where the kernel does not report when the last byte came, a large answer
#: on a slow line looks like silence.
SILENCE = 5.0 if hasattr(socket, "TCP_INFO") else 60.0

_LAST_RECEIVED = struct.Struct("=52xI")  # tcpi_last_data_recv, in milliseconds

#: Ask the server of these sessions which of them work; None where that cannot be known.
Ask = Callable[[List[int]], Optional[Set[int]]]


class Watch:
    """A statement that is under way on a connection: ``with Watch(connection, pid, ask):``."""

    def __init__(self, connection: Any, pid: int, ask: Ask) -> None:
        self.connection = connection
        self.pid = pid  # of the server's process
        self.ask = ask
        self.suspected = False  # nobody works on it, but the answer may be on its way
        self.dead = False
        self.since = 0.0

    def __enter__(self) -> None:
        self.since = time.monotonic()
        of_this_process().add(self)

    def __exit__(self, kind: Any, error: Any, trace: Any) -> None:
        of_this_process().drop(self)
        if self.dead and isinstance(error, psycopg2.Error):
            raise psycopg2.OperationalError(
                f"PostgreSQL has not answered for {SILENCE:.0f} s"
            ) from error

    def silence(self, now: float) -> float:
        """Return for how many seconds nothing has come from the server."""
        age = now - self.since
        return age if age <= SILENCE else min(age, _since_last_byte(self.connection))

    def end(self) -> None:
        """Make the statement fail."""
        self.dead = True
        with contextlib.suppress(OSError, psycopg2.Error), _socket_of(self.connection) as ours:
            ours.shutdown(socket.SHUT_RDWR)


class Watchdog:
    """All statements that are under way in this process, and the thread that looks after them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._watches: Set[Watch] = set()
        self._guard: Optional[_Guard] = None

    def add(self, watch: Watch) -> None:
        """Look after a statement."""
        with self._lock:
            self._watches.add(watch)
            if self._guard is None or not self._guard.alive:
                self._guard = _Guard(self)
                with contextlib.suppress(RuntimeError):  # the interpreter ends
                    self._guard.start()

    def drop(self, watch: Watch) -> None:
        """The statement has ended. Afterwards nobody touches its socket."""
        with self._lock:
            self._watches.discard(watch)

    def look(self) -> int:
        """End what is dead; return how many statements are under way."""
        for ask, watches in self._silent().items():
            working = ask([watch.pid for watch in watches])
            with self._lock:
                for watch in self._watches.intersection(watches):
                    if working is None or watch.pid in working:
                        watch.since = time.monotonic()
                    else:
                        watch.suspected = True
        return len(self._watches)

    def rest(self) -> bool:
        """Let the thread end, if there is nothing to look after; tell whether it may."""
        with self._lock:
            if self._watches:
                return False
            self._guard = None
            return True

    def _silent(self) -> Dict[Ask, List[Watch]]:
        """End those that are suspected, and return the others from which nothing came."""
        found: Dict[Ask, List[Watch]] = {}
        now = time.monotonic()
        with self._lock:
            for watch in self._watches:
                if watch.silence(now) <= SILENCE:
                    watch.suspected = False
                elif watch.suspected:
                    watch.end()
                else:
                    found.setdefault(watch.ask, []).append(watch)
        return found


def of_this_process() -> Watchdog:
    """Return the watchdog: a forked child has its own, as the parent's lock may be held for ever.

    All threads of the child get the same one, without a lock.
    """
    pid = os.getpid()
    return _watchdogs.get(pid) or _watchdogs.setdefault(pid, Watchdog())


class _Guard(Worker):
    """The thread: one for the process, as long as statements come."""

    def __init__(self, watchdog: Watchdog) -> None:
        super().__init__("pgevents-watchdog")
        self._watchdog = watchdog

    def run(self) -> None:
        busy = time.monotonic()
        while True:
            time.sleep(TICK)
            if self._watchdog.look():
                busy = time.monotonic()
            elif time.monotonic() - busy > LINGER and self._watchdog.rest():
                return


@contextlib.contextmanager
def _socket_of(connection: Any) -> Iterator[socket.socket]:
    with socket.socket(fileno=os.dup(connection.fileno())) as ours:
        yield ours


def _since_last_byte(connection: Any) -> float:
    """Return how long ago the kernel received something; infinity where it does not report it."""
    with contextlib.suppress(AttributeError, OSError, psycopg2.Error, struct.error):
        with _socket_of(connection) as ours:
            found = ours.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LAST_RECEIVED.size)
        return float(_LAST_RECEIVED.unpack(found)[0]) / 1000
    return float("inf")


_watchdogs: Dict[int, Watchdog] = {}  # process → its own, after those of its parents
