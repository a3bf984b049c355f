"""``pgevents sql``: what install would do, for those who may not do it themselves."""

import sys
from typing import Optional, Tuple

import click

from ..display import paragraphs
from ..errors import UsageError
from ..hub import Hub
from . import options


@click.command(cls=options.Command)
@options.watching
@click.option("--role", help="Add the rights that a hub needs that runs as this role.")
@options.owner
def sql(hub: Hub, tables: Tuple[str, ...], role: Optional[str], owner: Optional[str]) -> None:
    """Print the SQL that install would run.

    For the database's owner, where a program may not create anything. Reads
    the database, to know the tables; changes nothing. Afterwards the program
    listens with Hub(..., install=False).

    \b
    Examples:
      pgevents sql postgresql://me@host/shop orders --role shop_app > capture.sql
      psql -X -v ON_ERROR_STOP=1 -f capture.sql postgresql://owner@host/shop
    """
    text = hub.install(sql_only=True, role=role, owner=owner).rstrip()
    if sys.stdout.isatty() and paragraphs(text) != text.expandtabs(4):
        raise UsageError(
            "a name in this SQL has characters that a terminal would obey: write it to a file,"
            " pgevents sql … > capture.sql"
        )
    click.echo(text, color=True)  # as it is: else click would take ESC out of a name
