"""Processes that begin at once: children of one that has imported everything."""

import multiprocessing

#: What takes longest when a process begins.
IMPORTED = ["pytest", "pgevents.postgres.postgresql", "pgevents.sqlite.sqlite", "pgevents.testing"]


def context():
    """The context for multiprocessing: nothing of this process is in its children."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(IMPORTED)
    return context
