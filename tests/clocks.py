"""Wrong clocks for processes, by libfaketime."""

import os
from pathlib import Path

import pytest

LIBRARIES = (
    "/usr/lib/*/faketime/libfaketimeMT.so.1",
    "/usr/lib*/faketime/libfaketimeMT.so.1",
    "/usr/local/lib*/faketime/libfaketimeMT.so.1",
)


class Clock:
    """A clock that can be set while processes run; `environment` is for them."""

    def __init__(self, library, path):
        self._path = path
        self.set(0)
        self.environment = {
            "LD_PRELOAD": library,
            "FAKETIME_TIMESTAMP_FILE": str(path),
            "FAKETIME_NO_CACHE": "1",
            # Who sets a machine's clock does not set this one.
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def set(self, seconds):
        """Let it be wrong by so much."""
        new = self._path.with_suffix(".new")
        new.write_text("{:+d}\n".format(seconds))
        new.replace(self._path)  # a reader sees one or the other


def clocks(directory):
    """A function that makes clocks; without the library the test is skipped, or fails."""
    found = [str(path) for pattern in LIBRARIES for path in Path("/").glob(pattern[1:])]
    if not found:
        absent = "libfaketime is not installed (Debian: faketime)"
        if os.environ.get("PGEVENTS_TEST_REQUIRE") == "1":
            pytest.fail(absent)
        pytest.skip(absent)
    return lambda name: Clock(found[0], directory / name)
