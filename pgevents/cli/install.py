"""``pgevents install``: capture tables before any program listens."""

from typing import Optional, Tuple

import click

from ..hub import Hub
from . import options
from .say import say


@click.command(cls=options.Command)
@options.watching
@options.owner
def install(hub: Hub, tables: Tuple[str, ...], owner: Optional[str]) -> None:
    """Capture the changes of one or several tables.

    Creates the log, if it is not there, and triggers on the tables. What is
    current is not touched, so it may be run at every deployment. What was
    installed for the same service before is kept, and this added. On
    PostgreSQL, whoever installs owns the log.

    A program's Hub does the same when it starts; this is for programs that
    may not create anything, Hub(..., install=False).

    \b
    Examples:
      pgevents install sqlite:///shop.db orders customers
      pgevents install postgresql://owner@host/shop sales.orders --exclude card_number
      pgevents install postgresql://owner@host/shop orders --moment after_insert
    """
    hub.install(owner=owner)
    say(f"captured now: {', '.join(tables)}")
