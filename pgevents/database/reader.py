"""What reads a log behind a cursor, on either database."""

import os
import random
import socket
from typing import Any, Callable, FrozenSet, List, Optional, Tuple

from ..events.logrow import LogRow


def new_owner() -> str:
    """Return a name for a reader, which no other has."""
    return f"{socket.gethostname()}:{os.getpid()}:{random.randrange(1000, 2**31)}"


class Reader:
    """Reads a log behind a cursor. One thread at a time uses it, but for ``wake``.

    The cursor is kept when the connection is lost: ``open()`` makes a new one
    and goes on where it was.
    """

    @property
    def is_open(self) -> bool:
        """Return whether there is a connection that is not known to be lost."""
        raise NotImplementedError

    #: Who we are, for the leases of groups: host, process and a number.
    owner: str

    #: Called when something may have been committed that is not in the log: streams have a
    #: table of their own, and the same bell.
    stirred: Callable[[], None] = staticmethod(lambda: None)

    #: Until when (``time.monotonic()``) the next ``open()`` may wait for a lock of the database.
    deadline: Optional[float] = None

    def open(self) -> None:
        """Connect; the first time, begin with what is committed from now on.

        Raises a DatabaseError.
        """
        raise NotImplementedError

    def read(self) -> List[LogRow]:
        """Return what is new, in order, at most a page; an empty list when there is nothing.

        Raises Unavailable when the connection is lost; then nothing was read.
        """
        raise NotImplementedError

    def skim(self) -> bool:
        """Move past what is new without returning it; return whether there was anything."""
        return bool(self.read())

    @property
    def cursor(self) -> Any:
        """How far it has read, for ``go_back(cursor)``."""
        raise NotImplementedError

    def go_back(self, cursor: Any) -> None:
        """Read on from an earlier cursor."""
        raise NotImplementedError

    @property
    def behind(self) -> bool:
        """Return whether the last ``read()`` left something that was committed before it."""
        raise NotImplementedError

    def wait(self, timeout: float) -> None:
        """Sleep until there may be something to read, for ``timeout`` seconds at most."""
        raise NotImplementedError

    def breathe(self, timeout: float = 0.0) -> None:
        """Stay awake while nobody reads: take in what the server sends. Raises Unavailable.

        Wait for that, or for ``wake()``, for ``timeout`` seconds at most.
        """
        raise NotImplementedError

    def wake(self) -> None:
        """End ``wait()``, or the next one. From any thread."""
        raise NotImplementedError

    def interrupt(self) -> None:
        """Make whatever the reader does raise Unavailable soon. From any thread; for good."""
        raise NotImplementedError

    def listen(self, channels: FrozenSet[str]) -> None:
        """Listen to these channels of the database's own, and to no other. Raises Unavailable."""

    def notifications(self) -> List[Tuple[str, str, int]]:
        """Return what came since the last call: channel, payload and the sender's process."""
        return []

    def altered(self) -> bool:
        """Report, once, that tables may have been altered since the last call."""
        return False

    def missed(self) -> Optional[str]:
        """Report, once, that events were cleaned away before they were read; else None."""
        raise NotImplementedError

    def close(self) -> None:
        """Close the connection; ``open()`` makes another. Safe twice."""
        raise NotImplementedError

    def end(self) -> None:
        """Close the connection for good."""
        self.close()

    def abandon(self) -> None:
        """In a forked child: forget the parent's connection without disturbing it."""
        raise NotImplementedError

    def copy(self) -> "Reader":
        """Return a reader of its own that goes on from the same cursor."""
        raise NotImplementedError
