"""What the command prints for people: safe for their terminals."""

import click
from rich.text import Text

from ..display import paragraphs, shown


def say(text: str, err: bool = False) -> None:
    """Print a line."""
    click.echo(shown(text), err=err)


def say_lines(text: str, err: bool = False) -> None:
    """Print several lines."""
    click.echo(paragraphs(text), err=err)


def ask(question: str) -> None:
    """Ask for a yes; anything else ends the command."""
    click.confirm(shown(question), abort=True)


def cell(text: str, style: str = "") -> Text:
    """Return what stands in a table: as Text, since a name may look like markup."""
    return Text(shown(text), style)
