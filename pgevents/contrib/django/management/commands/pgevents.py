"""``manage.py pgevents``: the command ``pgevents`` for the databases of this project."""

import argparse
import signal
import sys
import threading
from typing import Any, List

from django.core.management.base import BaseCommand, CommandError

from .....errors import PgEventsError
from ... import databases
from ...address import url_of
from ...config import Config

#: The verbs of the command ``pgevents`` that take a URL first; here they take none.
VERBS = (
    "status",
    "tail",
    "groups",
    "dead",
    "retry",
    "discard",
    "pause",
    "resume",
    "rewind",
    "drop",
)

LOOK = 0.5  # seconds between two looks whether the hubs are still alive


def _own() -> argparse.ArgumentParser:
    """Return a parser for Django's options, where they stand behind a verb."""
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--database")
    for name in ("--settings", "--pythonpath"):  # Django has taken them before
        parser.add_argument(name)
    for name in ("--traceback", "--no-color", "--force-color", "--skip-checks"):
        parser.add_argument(name, action="store_true")
    return parser


_OWN = _own()


class Command(BaseCommand):  # type: ignore[misc]
    """Runs the hubs of this project, or does to its databases what ``pgevents`` does."""

    help = (
        "run: call the listeners until TERM. install, uninstall: the triggers of what is listened"
        f" to. {', '.join(VERBS)}: as in the command pgevents, but without the URL:"
        " manage.py pgevents tail shop_order"
    )
    requires_system_checks: List[str] = []

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("--database", help="The alias; the first of PGEVENTS if left out.")
        parser.add_argument("verb", choices=("run", "install", "uninstall", *VERBS))
        parser.add_argument("words", nargs=argparse.REMAINDER, help="What the verb asks for.")

    def handle(self, *_: Any, **options: Any) -> None:
        verb, words = options["verb"], options["words"]
        own, rest = _OWN.parse_known_args(words)
        alias = own.database or options["database"] or Config().databases[0]
        try:
            if verb == "run":
                _nothing_more(verb, rest)
                self._run()
            elif verb == "install":
                _nothing_more(verb, rest)
                databases.hub(alias).install()
                self.stdout.write(f"installed in {alias}")
            elif verb == "uninstall":
                _nothing_more(verb, [word for word in rest if word != "--everything"])
                databases.hub(alias).uninstall(everything="--everything" in rest)
                self.stdout.write(f"uninstalled from {alias}")
            else:
                sys.exit(_pgevents(verb, alias, rest))
        except PgEventsError as error:
            raise CommandError(str(error)) from error

    def _run(self) -> None:
        """Call the listeners, and nothing else, until TERM or ctrl-C."""
        ended = threading.Event()
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: ended.set())
        databases.start()
        connecting = list(Config().databases)
        try:
            while not ended.wait(LOOK if not connecting else 0):
                _raise_what_ended_one()
                for alias in connecting[:]:
                    if databases.hub(alias).wait_ready(LOOK):
                        connecting.remove(alias)
                        self.stdout.write(f"listening: {alias}")
                        self.stdout.flush()
        finally:
            databases.stop()


def _raise_what_ended_one() -> None:
    for alias in Config().databases:
        status = databases.hub(alias).status()
        if status["state"] == "failed":
            raise CommandError(f"the hub of {alias!r} has ended: {status['error']}")


def _nothing_more(verb: str, words: List[str]) -> None:
    if words:
        raise CommandError(f"pgevents {verb} takes no {' '.join(words)}")


def _pgevents(verb: str, alias: str, words: List[str]) -> int:
    """Run a verb of the command ``pgevents``; return its exit code."""
    try:
        from .....cli.command import pgevents, run
    except ModuleNotFoundError as error:
        raise CommandError(
            f"pgevents {verb} needs {error.name}: pip install 'sqlalchemy-pgevents[django]'"
        ) from error
    url = url_of(databases.database(alias).alias).render_as_string(hide_password=False)
    known = {option.name for option in pgevents.commands[verb].params}
    options = Config().options
    given = [
        f"--{name}={options[name]}" for name in ("schema", "service") if name in known & {*options}
    ]
    return run([verb, url, *words, *given])
