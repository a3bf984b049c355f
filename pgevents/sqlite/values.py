"""SQLite's values: how the log holds them, and what the ORM would give.

JSON cannot tell a BLOB from a text, and SQLite writes a REAL into it with 15
digits only. So the triggers put a letter before everything but integers and
NULL; ``parse`` takes it away.

    t…  a text          r…  a REAL, with 20 digits: 17 come out wrong at times
    x…  a BLOB, hex     a…, b…, c…, d…  a REAL far from 1, scaled by a power of two
    o…  left out: its size, where the row is too large for the log; a space after
        it says that the other row of the update has another value
"""

import datetime
import decimal
import functools
import json
import math
import re
import warnings
from typing import Any, Dict, Iterable, List, Mapping, Optional, Sequence

from sqlalchemy import JSON, Table
from sqlalchemy import types as sqltypes
from sqlalchemy.dialects.sqlite.pysqlite import SQLiteDialect_pysqlite
from sqlalchemy.exc import SAWarning

from ..events.kinds import Kind, declared
from ..events.values import Decoder, parse_json

_DIALECT = SQLiteDialect_pysqlite()

#: Bytes of a row's values. The old and the new row together, as JSON where each
#: character becomes \u0001, have to fit one row of the log: 1,000,000,000.
#: Of a larger row, values are left out that are above their share of this.
LARGEST = 80_000_000
#: SQLite takes 500 terms in a compound SELECT.
TERMS = 500

#: How a REAL is brought near 1: by which operator, and how often, with 2 to the 62nd.
_SCALED = {"a": ("/", 6), "b": ("/", 12), "c": ("*", 7), "d": ("*", 15)}

#: 2 to the 62nd, as SQL; and the same, multiplied: it cannot be written down exactly.
_FACTOR = "4611686018427387904"
_THRICE = f"1.0 * {_FACTOR} * {_FACTOR} * {_FACTOR}"


def expression(row: str, columns: Dict[str, str]) -> str:
    """Return SQL that makes the JSON of a row: ``row`` is its alias, ``columns`` name → quoted."""
    # By the +, a value keeps its type: a column of a compound takes the first term's affinity, and
    # the text '007' would become 7 behind an integer.
    fields = [(f"'{name_literal(name)}'", f"+{row}.{column}") for name, column in columns.items()]
    size = f"(SELECT sum({_bytes('v')}) FROM f)"
    return (
        f"(WITH f AS ({terms('kv', fields)})"
        f" SELECT json_group_object(k, {tagged('v', size, len(fields))}) FROM f"
        f" WHERE i < {len(fields)})"
    )


def terms(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a compound SELECT of rows with their numbers (``i``); of one of NULLs for none."""
    # Not VALUES: SQLite 3.40 does not find NEW and OLD in there.
    first, *others = rows or [["NULL"] * len(columns)]
    named = ",".join(f"{value} AS {column}" for column, value in zip(columns, first))
    selects = [f"SELECT 0 AS i,{named}"]
    selects += [f"SELECT {number},{','.join(row)}" for number, row in enumerate(others, 1)]
    if len(selects) <= TERMS:
        return " UNION ALL ".join(selects)
    groups = [selects[start : start + TERMS] for start in range(0, len(selects), TERMS)]
    return " UNION ALL ".join(f"SELECT * FROM ({' UNION ALL '.join(group)})" for group in groups)


def name_literal(name: str) -> str:
    """Quote what stands between single quotes."""
    return name.replace("'", "''")


def tagged(value: str, size: str, count: int, note: str = "") -> str:
    """Return SQL for what the log holds of a value, one of ``count`` in a row.

    ``size`` is SQL for the bytes of its row, asked only where a value is above
    its share. ``note`` is SQL for what follows the size of one that is left out.
    """
    # Texts of a usual size first, in three looks at the value: it is a column of a
    # subquery, and SQLite copies a text for each look.
    share = LARGEST // max(count, 1)
    size_is_usual = f"{_bytes(value)} <= {share}"
    return (
        f"CASE WHEN typeof({value}) = 'text' AND {size_is_usual} THEN 't' || {value}"
        f" ELSE CASE typeof({value}) WHEN 'real' THEN {_real(value)} WHEN 'integer' THEN {value}"
        f" WHEN 'null' THEN NULL ELSE CASE WHEN NOT {size_is_usual} AND {size} > {LARGEST}"
        f" THEN 'o' || {_bytes(value)}{note and ' || ' + note}"
        f" WHEN typeof({value}) = 'text' THEN 't' || {value} ELSE 'x' || hex({value}) END END END"
    )


def size_of(values: List[str]) -> str:
    """Return SQL for the bytes of these values."""
    # A CASE in a loop is compiled sooner than a sum of so many terms.
    cases = " ".join(f"WHEN {number} THEN {value}" for number, value in enumerate(values))
    one = f"CASE i {cases} END" if values else "NULL"
    return (
        "(WITH RECURSIVE c(i) AS (SELECT 0 UNION ALL SELECT i + 1 FROM c"
        f" WHERE i < {len(values)}) SELECT sum({_bytes(one)}) FROM c)"
    )


def _bytes(value: str) -> str:
    return f"length(CAST({value} AS BLOB))"  # of a text, length() counts up to the first \0


def _real(value: str) -> str:
    # Beyond these bounds newer versions of SQLite print a wrong last digit.
    # Multiplying by a power of two is exact.
    return (
        f"CASE WHEN abs({value}) BETWEEN 1e-70 AND 1e90 OR {value} = 0"
        f" THEN 'r' || {_printed(value)}"
        f" ELSE (SELECT CASE WHEN abs({value}) > 1e200 THEN 'b' || {_printed(f'{value}/m/m/m/m')}"
        f" WHEN abs({value}) > 1e90 THEN 'a' || {_printed(f'{value}/m/m')}"
        f" WHEN abs({value}) < 1e-180 THEN 'd' || {_printed(f'{value}*m*m*m*m*m')}"
        f" ELSE 'c' || {_printed(f'{value}*m*m*{_FACTOR}')} END FROM (SELECT {_THRICE} AS m)) END"
    )


def _printed(value: str) -> str:
    return f"printf('%!.20g', {value})"


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
    if tag in _SCALED:
        sign, times = _SCALED[tag]
        return math.ldexp(float(rest), 62 * times if sign == "/" else -62 * times)
    if tag == "x":
        return bytes.fromhex(rest)
    return f"(left out of the log: {rest.rstrip()} bytes)"


def _document(decode: Any) -> Decoder:
    # A number alone is no text: the column's affinity has made it one.
    return lambda value: parse_json(value) if isinstance(value, str) else decode(value)


def decoders(table: Table) -> Dict[str, Decoder]:
    """Return a decoder for each column whose type needs one."""
    return _not_none({str(column.name): _decoder(column.type) for column in table.columns})


def decoders_by_name(types: Mapping[str, str]) -> Dict[str, Decoder]:
    """Return the same by the names of the types that the table itself declares."""
    return _not_none({column: _decoder_by_name(name) for column, name in types.items()})


def _not_none(found: Dict[str, Optional[Decoder]]) -> Dict[str, Decoder]:
    return {name: decode for name, decode in found.items() if decode is not None}


def _decoder(kind: Any) -> Optional[Decoder]:
    try:
        with warnings.catch_warnings():
            # SQLAlchemy warns that SQLite has no decimals, which is the application's choice.
            warnings.simplefilter("ignore", SAWarning)
            kind = kind.dialect_impl(_DIALECT)
            decode: Optional[Decoder] = kind.result_processor(_DIALECT, None)
            return _document(decode) if _is_plain_json(kind) else decode
    except Exception:
        return None  # a declared type that cannot be: the ORM could not read it either


@functools.lru_cache(maxsize=1000)
def _decoder_by_name(name: str) -> Optional[Decoder]:
    """Return what reads a type that SQLAlchemy would reflect for this name."""
    found = re.match(r"([\w ]+)(\(.*?\))?", name.upper())
    word, given = (found.group(1), found.group(2)) if found else ("", "")
    kind: Any = _DIALECT.ischema_names.get(word) or _affinity(word)
    sizes = [int(size) for size in re.findall(r"\d+", given or "")]
    try:
        kind = kind(*sizes)
    except TypeError:
        kind = kind()
    return _decoder(kind)


def _affinity(word: str) -> Any:
    """Return what SQLite makes of a type's name: https://www.sqlite.org/datatype3.html, 3.1."""
    for parts, kind in (
        (("INT",), sqltypes.INTEGER),
        (("CHAR", "CLOB", "TEXT"), sqltypes.TEXT),
        (("BLOB",), sqltypes.NullType),
        (("REAL", "FLOA", "DOUB"), sqltypes.REAL),
    ):
        if any(part in word for part in parts):
            return kind
    return sqltypes.NUMERIC if word else sqltypes.NullType


def _is_plain_json(kind: Any) -> bool:
    """Tell whether SQLAlchemy itself would read a column's values, by json.loads()."""
    return (
        isinstance(kind, JSON)
        and type(kind).__module__.startswith("sqlalchemy.")
        and getattr(_DIALECT, "_json_deserializer", 0) is None
    )


#: Whatever a column is called, these are all that SQLite has, or SQLAlchemy makes of it.
_ANY = Kind(
    (
        str,
        int,
        float,
        bytes,
        bool,
        decimal.Decimal,
        datetime.date,
        datetime.datetime,
        datetime.time,
    )
)


def kinds(columns: Iterable[str], table: Optional[Table]) -> Dict[str, Kind]:
    """Return of which kind each column's values are, but for those that may be anything.

    Without a ``table`` that declares types, a column may hold whatever SQLite has.
    """
    found = {name: _ANY for name in columns}
    for column in () if table is None else table.columns:
        kind = declared(column.type)
        if kind is None:
            found.pop(str(column.name), None)
        else:
            found[str(column.name)] = _without_zone(kind)
    return found


def _without_zone(kind: Kind) -> Kind:
    clocks = {datetime.datetime, datetime.time}
    return kind._replace(aware=False) if clocks & set(kind.types) else kind
