"""SQLite's values: how the log holds them, and what the ORM would give.

JSON cannot tell a BLOB from a text, and SQLite writes a REAL into it with 15
digits only. So the triggers put a letter before everything but integers and
NULL; ``parse`` takes it away.

    t…  a text          r…  a REAL, with 17 digits
    x…  a BLOB, hex     o…  left out: its size, where it is too large for the log
"""

import json
from typing import Any, Dict, Optional

from sqlalchemy import Table
from sqlalchemy.engine import Dialect

from ..values import Decoder

LARGEST = 100_000_000  # bytes of a value; as hex it must fit SQLite's 1,000,000,000

#: SQLite takes 127 arguments for a function: that many pairs at the most.
PAIRS = 60


def expression(row: str, columns: Dict[str, str]) -> str:
    """Return SQL that makes the JSON of a row: ``row`` is NEW or OLD, ``columns`` name → quoted."""
    pairs = [
        f"'{name_literal(name)}', {_tagged(f'{row}.{quoted}')}" for name, quoted in columns.items()
    ]
    if not pairs:
        return "'{}'"
    objects = [
        f"json_object({', '.join(pairs[start:start + PAIRS])})"
        for start in range(0, len(pairs), PAIRS)
    ]
    # A wide row's objects are joined into one.
    joined = objects[0]
    for another in objects[1:]:
        joined = f"substr({joined}, 1, length({joined}) - 1) || ',' || substr({another}, 2)"
    return joined


def name_literal(name: str) -> str:
    """Quote what stands between single quotes."""
    return name.replace("'", "''")


def _tagged(value: str) -> str:
    too_large = f"length({value}) > {LARGEST}"
    return (
        f"CASE typeof({value})"
        f" WHEN 'text' THEN CASE WHEN {too_large} THEN 'o' || length({value})"
        f" ELSE 't' || {value} END"
        f" WHEN 'real' THEN 'r' || printf('%!.17g', {value})"
        f" WHEN 'blob' THEN CASE WHEN {too_large} THEN 'o' || length({value})"
        f" ELSE 'x' || hex({value}) END"
        f" ELSE {value} END"
    )


def parse(text: str) -> Any:
    """Read a row of the log: column name → value as sqlite3 would give it."""
    return {name: _untagged(value) for name, value in json.loads(text).items()}


def _untagged(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    tag, rest = value[:1], value[1:]
    if tag == "t":
        return rest
    if tag == "r":
        return float(rest)
    if tag == "x":
        return bytes.fromhex(rest)
    return f"(left out of the log: {rest} bytes)"


def decoders(table: Optional[Table], dialect: Dialect) -> Dict[str, Decoder]:
    """Return a decoder for each column whose declared type needs one."""
    found: Dict[str, Decoder] = {}
    for column in () if table is None else table.columns:
        try:
            decode = column.type.dialect_impl(dialect).result_processor(dialect, None)
        except Exception:
            continue  # a declared type that cannot be: the ORM could not read it either
        if decode is not None:
            found[str(column.name)] = decode
    return found
