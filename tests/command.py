"""The command, run as users run it: in a process of its own."""

import os
import pathlib
import subprocess
import sys

ROOT = pathlib.Path(__file__).parent.parent
TIMEOUT = 30  # seconds in which a command has to end


def environment(**more):
    """This process's environment; a child finds the package from wherever it runs."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", **more}


def start(*words, **more):
    """Start `pgevents` with these words; `more` is for the environment."""
    return subprocess.Popen(
        [sys.executable, "-m", "pgevents", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(**more),
    )


def run(*words, **more):
    """Run `pgevents` with these words to its end; return exit code, stdout and stderr."""
    return finish(start(*words, **more))


def finish(process):
    """Wait for a started command; return exit code, stdout and stderr."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err
