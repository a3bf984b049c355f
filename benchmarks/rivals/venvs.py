"""A virtual environment for a program that is measured beside pgevents."""

import subprocess
import sys
from pathlib import Path
from typing import Any, List

from tests.servers import home

HERE = Path(__file__).parent
INSTALL = 180.0  # seconds
RUN = 120.0  # seconds that one run may take


class Missing(Exception):
    """Something could not be installed or does not run; the argument says why."""


class Venv:
    """A virtual environment with these packages, in the benchmarks' own folder."""

    def __init__(self, name: str, packages: List[str]) -> None:
        self.name = name
        directory = home().directory("venv")
        self._python = str(directory / "bin" / "python")
        _run([sys.executable, "-m", "venv", str(directory)], INSTALL)
        _run([self._python, "-m", "pip", "install", "--quiet", *packages], INSTALL)

    def version(self) -> str:
        """Return the version of the package it is about."""
        code = "import importlib.metadata as m; print(m.version({!r}))".format(self.name)
        return _run([self._python, "-c", code], RUN).strip()

    def seconds(self, script: str, *arguments: Any) -> float:
        """Run one of the scripts that lie here, and return the number that it prints."""
        path = str(HERE / "{}.py".format(script))
        return float(_run([self._python, path, *map(str, arguments)], RUN))


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
