"""``pgevents status``: what is captured, and for whom."""

import json
from typing import Any, Dict

import click
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ..hub import Hub
from ..registry import Registry
from . import options

_COLOURS = {"ok": "green", "outdated": "yellow", "gone": "red"}
_HINTS = {
    "outdated": "outdated: a trigger is missing, or the table was altered; the next start of a"
    " hub, or pgevents install, brings it up to date.",
    "gone": "gone: the table was dropped; the next pgevents install of any table forgets it.",
}


@click.command(cls=options.Command)
@options.url
@click.option("--json", "as_json", is_flag=True, help="As JSON: a list with an object per table.")
@options.schema
def status(url: str, as_json: bool, schema: str) -> None:
    """Show what is captured, and for whom.

    The state is ok, outdated (a trigger is missing, or the table was altered)
    or gone (the table was dropped).

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
            click.echo(_HINTS[state])
    else:
        click.echo("nothing is captured here; pgevents install URL TABLE does that")


def _cells(row: Dict[str, Any]) -> Any:
    columns = "all"
    if row["include"] is not None:
        columns = "only " + ", ".join(row["include"])
    elif row["exclude"]:
        columns = "all but " + ", ".join(row["exclude"])
    # Text, not str: a table's name may look like markup.
    yield Text(row["table"])
    yield Text(", ".join(row["operations"]))
    yield Text(columns)
    yield Text("whole" if row["old"] else "key only")
    yield Text(", ".join(row["services"]))
    yield Text(row["state"], style=_COLOURS.get(row["state"], ""))
