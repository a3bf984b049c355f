"""The command's front: the list of commands, and what becomes of errors."""

import io
import re
import sys
from typing import List

import click

from ..errors import PgEventsError
from .backfill import backfill
from .demo import demo
from .groups import drop, groups, pause, resume, rewind
from .install import install
from .letters import dead, discard, retry
from .say import say_lines
from .sql import sql
from .status import status
from .tail import tail
from .uninstall import uninstall

#: What stands between a URL's user and host, and ``password=`` anywhere.
_SECRETS = (
    (re.compile(r"(://[^:/?#\s]*):[^\s]*@"), r"\1:***@"),
    (re.compile(r"(password=)[^&\s'\"]*", re.I), r"\1***"),
)


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(package_name="sqlalchemy-pgevents", prog_name="pgevents")
def pgevents() -> None:
    """Report which rows of a PostgreSQL or SQLite database change, whoever changes them.

    \b
    pgevents demo                                      see it work, without any database
    pgevents tail sqlite:///shop.db orders             watch a table
    pgevents tail postgresql://me@host/shop orders     the same on PostgreSQL
    pgevents status postgresql://me@host/shop          what is captured there

    Where URL is asked for, PGEVENTS_URL may hold it instead: others can see
    the command line in the list of processes.
    """


for _command in (
    demo,
    tail,
    install,
    uninstall,
    status,
    sql,
    groups,
    backfill,
    dead,
    retry,
    discard,
    pause,
    resume,
    rewind,
    drop,
):
    pgevents.add_command(_command)


def run(words: List[str]) -> int:
    """Run a command and return its exit code. Errors are printed on stderr."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal without → must not end a command.
            stream.reconfigure(errors="replace")
    try:
        code = pgevents.main(words, prog_name="pgevents", standalone_mode=False)
    except click.ClickException as error:
        text = io.StringIO()
        error.show(text)
        _complain(text.getvalue().rstrip())
        return error.exit_code
    except click.Abort:
        _complain("aborted")
        return 1
    except PgEventsError as error:
        # A server's sentence may have several lines.
        _complain("pgevents: " + " ".join(str(error).split()))
        return 1
    return int(code or 0)


def _complain(text: str) -> None:
    """Print on stderr, without the passwords of URLs that are repeated."""
    for secret, instead in _SECRETS:
        text = secret.sub(instead, text)
    say_lines(text, err=True)
