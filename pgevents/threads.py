"""Threads that have a name, can be woken, and end when asked to."""

import logging
import os
import select
import socket
import threading
import time
from typing import Optional

from .display import shown
from .retry import Backoff

logger = logging.getLogger("pgevents")

REMEMBERED = 60.0  # seconds that status() shows an error of a thread which goes on


class Waker:
    """Wakes a thread that sleeps on a socket, or on nothing.

    ``wake()`` may be called from any thread, and from a signal handler.
    ``woken`` stays true until the sleeper sets it back: a wake-up that comes
    while it waits for something else is not lost.
    """

    def __init__(self) -> None:
        self.woken = False
        self._reading, self._writing = socket.socketpair()
        self._reading.setblocking(False)
        self._writing.setblocking(False)

    def wake(self) -> None:
        """End the present sleep, or the next one."""
        self.woken = True
        try:
            self._writing.send(b"\0")
        except (BlockingIOError, OSError):
            pass  # enough wake-ups wait to be read, or the waker is closed

    def sleep(self, timeout: float, fd: Optional[int] = None, write: bool = False) -> bool:
        """Sleep until ``wake()``, until ``fd`` is ready, or ``timeout`` seconds.

        ``fd`` is waited for to be readable, or with ``write`` writable. Return
        whether it is.
        """
        # poll(), where there is one: select() cannot do descriptors above 1023.
        if hasattr(select, "poll"):
            poll = select.poll()
            poll.register(self._reading, select.POLLIN)
            if fd is not None:
                poll.register(fd, select.POLLOUT if write else select.POLLIN)
            ready = {one for one, _ in poll.poll(max(0.0, timeout) * 1000)}
        else:  # pragma: no cover (Windows)
            readers = [self._reading.fileno()] + ([fd] if fd is not None and not write else [])
            writers = [fd] if fd is not None and write else []
            found = select.select(readers, writers, [], max(0.0, timeout))
            ready = {*found[0], *found[1]}
        if self._reading.fileno() in ready:
            self._drain()
        return fd in ready

    def close(self) -> None:
        """Close its two sockets."""
        self._reading.close()
        self._writing.close()

    def _drain(self) -> None:
        try:
            while self._reading.recv(4096):
                pass
        except (BlockingIOError, OSError):
            pass


class Gate:
    """Lets a fork wait until no thread is inside: ``with gate:`` around what a fork must not split.

    The thread that forks may itself be inside. A fork waits for PATIENCE
    seconds at the most.
    """

    PATIENCE = 5.0

    def __init__(self) -> None:
        self._changed = threading.Condition(threading.RLock())
        self._inside = 0
        self._closed = False
        self._mine = threading.local()

    def __enter__(self) -> None:
        depth = getattr(self._mine, "depth", 0)
        with self._changed:
            if depth == 0:
                self._changed.wait_for(lambda: not self._closed)
                self._inside += 1
        self._mine.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._mine.depth -= 1
        if self._mine.depth == 0:
            with self._changed:
                self._inside -= 1
                self._changed.notify_all()

    def close(self) -> None:
        """Let no thread in, and wait until all others are out."""
        mine = 1 if getattr(self._mine, "depth", 0) else 0
        with self._changed:
            self._closed = True
            self._changed.wait_for(lambda: self._inside <= mine, self.PATIENCE)

    def open(self) -> None:
        """Let threads in again."""
        with self._changed:
            self._closed = False
            self._changed.notify_all()


class Worker:
    """A thread that runs ``run()`` until ``stop()``.

    When ``run()`` raises, it is called again after a pause: no error ends the
    thread. ``error`` is the last one. A worker is a daemon: a listener that
    never returns does not keep the interpreter from exiting.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.stopping = False
        self.error: Optional[BaseException] = None
        self._erred_at = 0.0
        self._stopped = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._pid = 0

    def run(self) -> None:
        """Do the work; return when ``stopping``."""
        raise NotImplementedError

    def wake(self) -> None:
        """End the wait that the thread is in, if any."""

    def start(self) -> None:
        """Start the thread. A worker starts once."""
        assert self._thread is None, "a worker starts once"
        self._pid = os.getpid()
        self._thread = threading.Thread(target=self._run, name=shown(self.name), daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ask it to end, and return at once. Safe twice, and before ``start()``."""
        self.stopping = True
        self._stopped.set()
        self.wake()

    def join(self, deadline: float) -> bool:
        """Wait for its end until ``deadline`` (``time.monotonic()``); return whether it ended.

        From the thread itself, True at once: it cannot wait for itself.
        """
        thread = self._thread
        if thread is None or thread is threading.current_thread():
            return True
        thread.join(max(0.0, deadline - time.monotonic()))
        return not self.alive

    @property
    def alive(self) -> bool:
        """Whether the thread runs, in this process."""
        # Thread.is_alive() is wrong in a child that uWSGI forked.
        thread = self._thread
        return thread is not None and self._pid == os.getpid() and thread.is_alive()

    @property
    def current(self) -> bool:
        """Whether the caller is this very thread."""
        return self._thread is threading.current_thread()

    @property
    def ended(self) -> bool:
        """Whether the thread ran, and runs no more although nobody has stopped it."""
        thread = self._thread
        return thread is not None and thread.ident is not None and not (self.alive or self.stopping)

    @property
    def mistake(self) -> Optional[str]:
        """A sentence about the last error, if it was not long ago."""
        error = self.error
        if error is None or time.monotonic() - self._erred_at > REMEMBERED:
            return None
        return f"{self.name} failed and began again: {type(error).__name__}: {error}"

    def _run(self) -> None:
        logger.debug("%s begins", self.name)
        waits = iter(Backoff())
        while not self._ran():
            self._stopped.wait(next(waits))
        logger.debug("%s ends", self.name)

    def _ran(self) -> bool:
        """Run once; return whether the thread may end."""
        try:
            self.run()
            return True
        except BaseException as error:  # SystemExit, too: it would end the thread in silence
            self.error, self._erred_at = error, time.monotonic()
            logger.exception("%s failed and begins again, please report it", self.name)
            return self.stopping
