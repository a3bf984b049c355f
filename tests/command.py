"""The command, run as users run it: in a process of its own."""

import functools
import json
import os
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).parent.parent
TIMEOUT = 30  # seconds in which a command has to end


def environment(**more):
    """This process's environment; a child finds the package from wherever it runs."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    return {**os.environ, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8", **more}


def start(*words, **more):
    """Start `pgevents` with these words; `more` is for the environment."""
    return _start([sys.executable, "-m", "pgevents", *words], **more)


def _start(arguments, **more):
    return subprocess.Popen(
        arguments,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=environment(**more),
    )


def run(*words, **more):
    """Run `pgevents` with these words to its end; return exit code, stdout and stderr."""
    server = forkserver()
    with tempfile.TemporaryDirectory() as directory:
        files = [pathlib.Path(directory, name) for name in ("out", "err")]
        for file in files:
            file.touch()
        order = [words, environment(**more), *map(str, files), TIMEOUT]
        server.stdin.write(json.dumps(order) + "\n")
        server.stdin.flush()
        code = int(server.stdout.readline())
        return (code, *(file.read_text(encoding="utf-8") for file in files))


def run_python(program):
    """Run a program of Python's, where the command has to be another; as `run`."""
    return finish(_start([sys.executable, "-c", program]))


@functools.lru_cache(maxsize=None)
def forkserver():
    """Start forkserver.py once; it ends with this process."""
    return subprocess.Popen(
        [sys.executable, "-m", "tests.forkserver"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
        cwd=str(ROOT),
        env=environment(),
    )


def finish(process):
    """Wait for a started command; return exit code, stdout and stderr."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    finally:
        process.kill()
        process.wait()
    return process.returncode, out, err
