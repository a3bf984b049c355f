"""Writes of ours begin when nobody is in a transaction, where the system knows who is.

An application's transaction that has read, and then writes, fails at once if another connection
has written in between, or is about to: SQLite calls it "database is locked", and no timeout
helps. Who is in a transaction holds a lock on bytes of the file, or in WAL mode of the ``-shm``
file, and Linux lists all locks. A file cannot be opened to ask for its locks: closing it again
would drop SQLite's own.
"""

import os
import sqlite3
import time
from typing import Optional, Tuple

from ..warnings import Warnings
from .connection import BUSY, busy

LOCKS = "/proc/locks"
PATIENCE = 0.25  # seconds that a write of ours waits for a moment without transactions …
LOOK = 0.0005  # seconds between two looks
SHARE = 0.1  # … and of all time, once it has waited in vain
WARNED = 60.0  # seconds that a warning of it stays
HELP = (
    'a transaction that has read may fail with "database is locked" when it writes:'
    " let it begin with BEGIN IMMEDIATE"
)

# Bytes that are locked while a transaction is open: of a file, and in WAL mode of its -shm.
_FILE = (0x40000000, 0x40000000 + 511)
_WRITER, _READERS = (120, 120), (123, 127)


class Courtesy:
    """How the writes of this process to one file begin."""

    def __init__(self, path: str, warnings: Warnings) -> None:
        self._path = path
        self._warnings = warnings
        self._patience = PATIENCE  # that is left …
        self._counted = time.monotonic()  # … at this time
        self._vain = False  # somebody was in a transaction all the time
        self._vain_at = 0.0

    def begin(self, connection: sqlite3.Connection, brief: bool) -> None:
        """Begin a transaction that may write; ``brief``: in which nobody else may read.

        Where readers lock writers out (not in WAL mode), those who begin
        meanwhile then wait, and do not fail.
        """
        begin = "BEGIN EXCLUSIVE" if brief else "BEGIN IMMEDIATE"
        # Who begins to read while a commit waits for the disk cannot write any more. A claim or an
        # acknowledgement that a power failure takes back is repeated; the file stays sound.
        relaxed = brief and _inode(self._path + "-shm") is not None
        connection.execute(f"PRAGMA synchronous = {'NORMAL' if relaxed else 'FULL'}")
        now = time.monotonic()
        self._patience = min(PATIENCE, self._patience + (now - self._counted) * SHARE)
        self._counted = now
        self._vain = not self._begin_quietly(connection, begin, now + self._patience)
        self._warn(now)
        if self._vain:
            self._patience, self._counted = 0.0, time.monotonic()
            connection.execute("BEGIN IMMEDIATE")

    def disturbs(self) -> bool:
        """Tell whether to commit now would let the write of another process fail.

        It has begun to read since we have begun to write. Who reads where
        writers wait for readers has waited itself.
        """
        if self._vain:
            return False
        shared = _inode(self._path + "-shm")
        return shared is not None and _locked(_locks(), shared, _READERS, but=os.getpid())

    def _warn(self, now: float) -> None:
        """Warn that the application's writes may fail because of ours, and for some time after."""
        if self._vain:
            self._vain_at = now
            self._warnings.set(
                "sqlite-writes", "a group wrote while others were in a transaction: " + HELP
            )
        elif not os.path.exists(LOCKS):
            self._warnings.set(
                "sqlite-writes",
                f"groups cannot know who is in a transaction, without {LOCKS}: " + HELP,
            )
        elif now > self._vain_at + WARNED:
            self._warnings.set("sqlite-writes", None)

    def _begin_quietly(self, connection: sqlite3.Connection, begin: str, deadline: float) -> bool:
        connection.execute("PRAGMA busy_timeout = 0")
        try:
            while not (self._quiet() and _begun(connection, begin)):
                if time.monotonic() >= deadline:
                    return False
                time.sleep(LOOK)
            return True
        finally:
            connection.execute(f"PRAGMA busy_timeout = {int(BUSY * 1000)}")

    def _quiet(self) -> bool:
        """Tell whether nobody is in a transaction, as far as can be known."""
        locks = _locks()
        shared = _inode(self._path + "-shm")
        if shared is None:
            return not _locked(locks, _inode(self._path), _FILE)
        return not _locked(locks, shared, _WRITER, _READERS)


def _begun(connection: sqlite3.Connection, begin: str) -> bool:
    try:
        connection.execute(begin)
        return True
    except sqlite3.OperationalError as error:
        if not busy(error):
            raise
        return False


def _inode(path: str) -> Optional[int]:
    try:
        return os.stat(path).st_ino
    except OSError:
        return None


def _locks() -> str:
    """Return the system's list of locks, a line for each; an empty one where there is none."""
    try:
        with open(LOCKS, encoding="ascii", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def _locked(locks: str, inode: Optional[int], *ranges: Tuple[int, int], but: int = 0) -> bool:
    """Tell whether somebody has locked these bytes of a file, from first to last.

    ``but`` is a process that does not count.
    """
    mark = f":{inode} "
    if mark not in locks:
        return False
    for line in locks.splitlines():
        # 1: POSIX  ADVISORY  READ 10869 fe:00:2147203 1073741826 1073742335
        if mark not in line or "->" in line:
            continue
        process, _, first, last = line.rsplit(" ", 4)[1:]
        if process != str(but) and any(
            int(first) <= end and (last == "EOF" or int(last) >= begin) for begin, end in ranges
        ):
            return True
    return False
