"""``pgevents status``: what is captured, and for whom."""

import json
from typing import Any, Dict

import click
from rich import box
from rich.console import Console
from rich.table import Table

from ..hub import Hub
from ..listening.registry import Registry
from . import options
from .say import cell, say

_COLOURS = {"ok": "green", "outdated": "yellow", "gone": "red", "denied": "red"}
_HINTS = {
    "outdated": "outdated: a trigger is missing, a function of ours was changed, or the table was"
    " altered; the next start of a hub, or pgevents install, brings it up to date.",
    "denied": "denied: each write to the table fails, as the triggers may not write to the log;"
    " pgevents install puts that right, or says who can.",
    "gone": "gone: the table was dropped; the next pgevents install of any table forgets it.",
}


@click.command(cls=options.Command)
@options.url
@click.option("--json", "as_json", is_flag=True, help="As JSON: a list with an object per table.")
@options.schema
def status(url: str, as_json: bool, schema: str) -> None:
    """Show what is captured, and for whom.

    The state is ok, outdated (a trigger is missing, a function was changed, or
    the table was altered), gone (the table was dropped) or denied (the
    triggers may not write to the log, so each write to the table fails).

    \b
    Examples:
      pgevents status sqlite:///shop.db
      pgevents status postgresql://me@host/shop --json
    """
    rows = Hub(url, Registry(), schema).installed()
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    elif rows:
        table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
        for title in ("table", "operations", "columns", "old rows", "services", "state"):
            table.add_column(title, overflow="fold")
        for row in rows:
            table.add_row(*_cells(row))
        Console().print(table)
        for state in sorted({row["state"] for row in rows} & set(_HINTS)):
            say(_HINTS[state])
    else:
        say("nothing is captured here; pgevents install URL TABLE does that")


def _cells(row: Dict[str, Any]) -> Any:
    columns = "all"
    if row["include"] is not None:
        columns = "only " + ", ".join(row["include"])
    elif row["exclude"]:
        columns = "all but " + ", ".join(row["exclude"])
    yield cell(row["table"])
    yield cell(", ".join(row["operations"]))
    yield cell(columns)
    yield cell("whole" if row["old"] else "key only")
    yield cell(", ".join(row["services"]))
    yield cell(row["state"], style=_COLOURS.get(row["state"], ""))
