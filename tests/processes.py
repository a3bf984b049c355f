"""Processes that begin at once: children of one that has imported everything."""

import multiprocessing
import os

#: What takes longest when a process begins.
IMPORTED = ["pytest", "pgevents.postgres.postgresql", "pgevents.sqlite.sqlite", "pgevents.testing"]


def context():
    """The context for multiprocessing: nothing of this process is in its children."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context


class Forked:
    """A process that runs ``main(*arguments)``, with those of Popen's methods that tests use.

    It ends like a child of multiprocessing: without what `atexit` would call.
    """

    def __init__(self, main, *arguments):
        reading, writing = context().Pipe(duplex=False)
        self._process = context().Process(
            target=_print_to, args=(writing, main, arguments), daemon=True
        )
        self._process.start()
        writing.close()
        self.stdout = open(os.dup(reading.fileno()), encoding="utf-8")
        reading.close()
        self.pid = self._process.pid

    def send_signal(self, number):
        if self.poll() is None:
            os.kill(self.pid, number)

    def poll(self):
        return self._process.exitcode

    def wait(self, timeout):
        self._process.join(timeout)
        assert self.poll() is not None
        return self.poll()


def _print_to(output, main, arguments):
    os.dup2(output.fileno(), 1)
    main(*arguments)
