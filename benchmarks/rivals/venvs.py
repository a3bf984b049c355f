"""A virtual environment for a program that is measured beside pgevents."""

import select
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, List

from tests.servers import home

HERE = Path(__file__).parent
INSTALL = 180.0  # seconds
READY = 30.0  # seconds until it listens
RUN = 120.0  # seconds that one run may take


class Missing(Exception):
    """Something could not be installed or does not run; the argument says why."""


class Venv:
    """A virtual environment with these packages, in the benchmarks' own folder."""

    def __init__(self, name: str, packages: List[str]) -> None:
        self.name = name
        directory = home().directory("venv")
        self.python = str(directory / "bin" / "python")
        _run([sys.executable, "-m", "venv", str(directory)], INSTALL)
        _run([self.python, "-m", "pip", "install", "--quiet", *packages], INSTALL)

    def version(self) -> str:
        """Return the version of the package it is about."""
        code = "import importlib.metadata as m; print(m.version({!r}))".format(self.name)
        return _run([self.python, "-c", code], RUN).strip()

    def seconds(self, script: str, *arguments: Any) -> float:
        """Run one of the scripts that lie here, and return the number that it prints."""
        path = str(HERE / "{}.py".format(script))
        return float(_run([self.python, path, *map(str, arguments)], RUN))


class Script:
    """One of the scripts that lie here, while it runs, for a ``with``: it prints "ready" first."""

    def __init__(self, venv: Venv, script: str, *arguments: Any) -> None:
        self._command = [venv.python, str(HERE / "{}.py".format(script)), *map(str, arguments)]

    def __enter__(self) -> "Script":
        self._process = subprocess.Popen(
            self._command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
        )
        self._unread = b""
        ready = self._line(READY)
        assert ready == b"ready", "{} said {!r}".format(self._command, ready)
        return self

    def __exit__(self, *_: Any) -> None:
        self._process.kill()
        self._process.wait()
        self._process.stdout.close()

    def next(self, timeout: float = 60.0) -> float:
        """Return the next number that it prints."""
        return float(self._line(timeout))

    def _line(self, timeout: float) -> bytes:
        deadline = time.monotonic() + timeout
        while b"\n" not in self._unread:
            left = max(0.0, deadline - time.monotonic())
            if not select.select([self._process.stdout], [], [], left)[0]:
                raise TimeoutError("the script has said nothing for {:.0f} s".format(timeout))
            more = self._process.stdout.read(65536)
            if not more:
                raise TimeoutError("the script has ended")
            self._unread += more
        line, _, self._unread = self._unread.partition(b"\n")
        return line.strip()


def _run(command: List[str], timeout: float) -> str:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            universal_newlines=True,
            timeout=timeout,
        )
    except subprocess.TimeoutExpired:
        raise Missing("took more than {:.0f} s".format(timeout))
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if not line.startswith("WARNING")]
        raise Missing(said[-1] if said else "exit code {}".format(done.returncode))
    return done.stdout
