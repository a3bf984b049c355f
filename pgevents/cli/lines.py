"""An event as a line for people to read."""

import datetime
import decimal
from typing import Any

import click

from ..display import shown
from ..events.event import Event
from ..events.values import Row

LONGEST = 60  # characters of a value; the rest is for --json
_PLAIN = (int, float, decimal.Decimal, datetime.date, datetime.time, datetime.timedelta)
_COLOURS = {"insert": "green", "update": "yellow", "delete": "red", "truncate": "magenta"}


def line(event: Event) -> str:
    """Return moment, table, key, and what changed, or else the row, in one line."""
    table = event.table if event.schema in ("public", "main") else f"{event.schema}.{event.table}"
    moment = click.style(f"{shown(event.moment):14}", fg=_COLOURS.get(event.operation))
    key = "" if event.key is None else _value(event.key)
    return f"{moment}  {shown(table)}  {key:>3}  {_what(event)}".rstrip()


def _what(event: Event) -> str:
    old, new = event.old, event.new
    if event.changed and old is not None and new is not None:
        return ", ".join(
            f"{shown(name)}: {_value(old[name])} → {_value(new[name])}" for name in event.changed
        )
    row = new if new is not None else old if old is not None else Row()
    return ", ".join(f"{shown(name)}={_value(value)}" for name, value in row.items())


def _value(value: Any) -> str:
    """Return a value in one line, safe for a terminal; a text in quotes."""
    if isinstance(value, tuple):
        return "(" + ", ".join(_value(item) for item in value) + ")"
    if value is None:
        return "NULL"
    text = shown(str(value) if isinstance(value, _PLAIN) else repr(value))
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
