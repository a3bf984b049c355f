"""Runs commands in children of a process that has imported everything: that takes longest.

A line on stdin is a JSON list: words, environment, and files for stdout and
stderr. A line on stdout is the exit code, as subprocess has it.
"""

import gc
import json
import os
import signal
import sys
import time

import pgevents.cli.command
import pgevents.postgres.postgresql
import pgevents.sqlite.sqlite  # noqa: F401


def begin(words, environment, out, err, timeout):
    """Make this child what it would be if it had been started by itself."""
    signal.alarm(timeout)
    os.environ.clear()
    os.environ.update(environment)
    time.tzset()
    for number, path in enumerate((os.devnull, out, err)):
        opened = os.open(path, os.O_RDWR)
        os.dup2(opened, number)
        os.close(opened)
    sys.argv = ["pgevents", *words]


if __name__ == "__main__":
    gc.freeze()  # a child that ends need not look at what is here already
    for line in sys.stdin:
        child = os.fork()
        if child == 0:
            begin(*json.loads(line))
            pgevents.cli.main()
        status = os.waitpid(child, 0)[1]
        print(-os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status))
        sys.stdout.flush()
