"""The command ``pgevents``: a demo, a table's changes live, and what is captured."""

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
