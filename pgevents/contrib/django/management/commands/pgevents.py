"""``manage.py pgevents``: the command ``pgevents`` for the databases of this project."""

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


class Command(BaseCommand):  # type: ignore[misc]
    """Runs the hubs of this project, or does to its databases what ``pgevents`` does."""

    help = (
        "run: call the listeners until TERM. install, uninstall: the triggers of what is listened"
        f" to. {', '.join(VERBS)}: as in the command pgevents, but without the URL:"
        " manage.py pgevents tail shop_order"
    )
    requires_system_checks: List[str] = []

    def add_arguments(self, parser: Any) -> None:
        parser.add_argument("verb", choices=("run", "install", "uninstall", *VERBS))
        parser.add_argument("--database", help="The alias; the first of PGEVENTS if left out.")
        parser.add_argument("words", nargs="*", help="What the verb asks for.")

    def run_from_argv(self, argv: List[str]) -> None:
        # The words of a verb, --json for example, are not for Django's parser.
        self._rest, own = _split(argv)
        super().run_from_argv(own)

    def handle(self, *_: Any, **options: Any) -> None:
        verb, alias = options["verb"], options["database"] or Config().databases[0]
        rest = [*options["words"], *getattr(self, "_rest", [])]
        try:
            if verb == "run":
                self._run()
            elif verb == "install":
                databases.hub(alias).install()
                self.stdout.write(f"installed in {alias}")
            elif verb == "uninstall":
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
        self.stdout.write(f"listening: {', '.join(Config().databases)}")
        self.stdout.flush()
        ended.wait()
        databases.stop()


def _split(argv: List[str]) -> Any:
    """Return the options of a verb, and what is Django's."""
    if len(argv) > 2 and argv[2] in (*VERBS, "uninstall"):
        own = [word for word in argv[3:] if word.startswith(("--database", "--settings"))]
        return [word for word in argv[3:] if word not in own], [*argv[:3], *own]
    return [], argv


def _pgevents(verb: str, alias: str, words: List[str]) -> int:
    """Run a verb of the command ``pgevents``; return its exit code."""
    try:
        from .....cli.command import pgevents, run
    except ModuleNotFoundError as error:
        raise CommandError(
            f"pgevents {verb} needs {error.name}: pip install 'sqlalchemy-pgevents[django]'"
        ) from error
    url = url_of(alias).render_as_string(hide_password=False)
    known = {option.name for option in pgevents.commands[verb].params}
    options = Config().options
    given = [
        f"--{name}={options[name]}" for name in ("schema", "service") if name in known & {*options}
    ]
    return run([verb, url, *words, *given])
