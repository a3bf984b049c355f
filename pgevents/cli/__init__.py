"""The command ``pgevents``: a demo, a table's changes live, and what is captured.

In reading order; each imports only what stands above it:

    say            text for people, safe for their terminals
    options        what several commands ask for
    lines          an event as a line for people to read
    shop           the program that the demo listens to
    demo           changes by another process, received in this one
    tail           the changes of tables, live
    install        capture tables before any program listens
    sql            what install would do, as SQL
    status         what is captured, and for whom
    groups         looking after groups
    backfill       how far a group is with the rows that were there before it
    uninstall      take the triggers back
    letters        what a group has given up, and what becomes of it
    command        the list of commands, and what becomes of errors
"""

import sys


def main() -> None:
    """Run what the command line says, and exit: 0 done, 1 an error, 2 a wrong command line."""
    try:
        from .command import run
    except ModuleNotFoundError as error:
        missing = (error.name or "").partition(".")[0]
        if missing not in ("click", "rich"):
            raise
        sys.exit(
            f"pgevents: the command needs {missing}, which is not installed:"
            " pip install 'sqlalchemy-pgevents[cli]'"
        )
    sys.exit(run(sys.argv[1:]))
