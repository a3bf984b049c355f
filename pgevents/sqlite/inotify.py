"""Hearing from the kernel that a file is written, so that nobody needs to look all the time.

Linux only, and by ctypes: Python has no module for inotify(7). What it
reports is a hint. A write is reported before its commit can be seen; one through a
mapping, or on another machine, is not reported at all.
"""

import os
from typing import Iterable, Optional

IN_MODIFY = 0x2  # somebody wrote into the file
ENOUGH = 65536  # bytes of news to take at once; a piece is of 16


class Inotify:
    """Reports when one of some files is written.

    ``fd`` is readable when there is something to report. Raises OSError where
    there is no inotify, or none is left (fs.inotify.max_user_instances).
    """

    def __init__(self, paths: Iterable[str]) -> None:
        try:
            import ctypes  # absent from a Python that was built without libffi

            libc = ctypes.CDLL(None, use_errno=True)
            begin, self._add = libc.inotify_init1, libc.inotify_add_watch
        except (ImportError, AttributeError, TypeError) as error:
            raise OSError("there is no inotify here") from error
        self._paths = [os.fsencode(path) for path in paths]
        self.fd: int = begin(os.O_NONBLOCK | os.O_CLOEXEC)
        if self.fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self.renew()

    @classmethod
    def of(cls, paths: Iterable[str]) -> "Optional[Inotify]":
        """Return one for these files, or None where that is impossible."""
        try:
            return cls(paths)
        except OSError:
            return None

    def renew(self) -> None:
        """Take in those files that came into being."""
        for path in self._paths:
            self._add(self.fd, path, IN_MODIFY)

    def heard(self) -> bool:
        """Tell whether anything was written since the last call."""
        try:
            return bool(os.read(self.fd, ENOUGH))
        except BlockingIOError:
            return False

    def close(self) -> None:
        """Close it. In a forked child, the parent's goes on."""
        os.close(self.fd)
