"""PostgreSQL's values: from the JSON in the log to what the driver, then the ORM, would give."""

import datetime
import uuid
from decimal import Decimal
from typing import Any, Dict, List, Mapping, Optional

import psycopg2.extensions
from psycopg2.extras import DateRange, DateTimeRange, DateTimeTZRange, NumericRange
from sqlalchemy import Table
from sqlalchemy.dialects.postgresql import HSTORE
from sqlalchemy.engine import Dialect

from ..events.kinds import SCALAR, Kind, declared
from ..events.values import Decoder, chain, in_json, parse_datetime, parse_json, parse_time
from . import literals
from .catalog import Type

#: What psycopg2 makes of infinity.
_DATES = {"infinity": datetime.date.max, "-infinity": datetime.date.min}
_TIMES = {"infinity": datetime.datetime.max, "-infinity": datetime.datetime.min}


def _bytes(value: str) -> bytes:
    # bytea_output is pinned to hex: \x…. It may have been a text when the row was written.
    if not value.startswith("\\x"):
        raise ValueError(value)
    return bytes.fromhex(value[2:])


def _date(value: str) -> Any:
    return _DATES.get(value) or parse_datetime(value).date()


def _timestamp(value: str) -> Any:
    return _TIMES.get(value) or parse_datetime(value)


def _timestamptz(value: str) -> Any:
    infinite = _TIMES.get(value)
    if infinite is not None:
        return infinite.replace(tzinfo=datetime.timezone.utc)
    return parse_datetime(value)


def _interval(value: str) -> Any:
    return psycopg2.extensions.PYINTERVAL(value, None)


#: The type's name → what makes the driver's value of the JSON one. Types that
#: are not here are the same in both: int, bool, text, enums, inet, money, …
_BY_NAME: Dict[str, Decoder] = {
    "numeric": Decimal,
    "float4": float,
    "float8": float,
    "oid": int,
    "json": in_json,
    "jsonb": in_json,
    "bytea": _bytes,
    "uuid": uuid.UUID,
    "date": _date,
    "time": parse_time,
    "timetz": parse_time,
    "timestamp": _timestamp,
    "timestamptz": _timestamptz,
    "interval": _interval,
}

#: The same for a value as PostgreSQL writes it in text, where JSON has another form.
_TEXTS: Dict[str, Decoder] = {
    "int2": int,
    "int4": int,
    "int8": int,
    "bool": lambda text: text == "t",
    "json": parse_json,
    "jsonb": parse_json,
}

_RANGES = {
    "int4": NumericRange,
    "int8": NumericRange,
    "numeric": NumericRange,
    "date": DateRange,
    "timestamp": DateTimeRange,
    "timestamptz": DateTimeTZRange,
}


def decoders(
    types: Mapping[str, Type], table: Optional[Table], dialect: Dialect
) -> Dict[str, Decoder]:
    """Return a decoder for each column that needs one.

    The first step gives what psycopg2 would, by the column's type in the
    database; the second what SQLAlchemy makes of that, by the type the Table
    or mapped class declares.
    """
    found = {}
    for name, kind in types.items():
        decode = chain(_driver(kind), _orm(name, kind, table, dialect))
        if decode is not None:
            found[name] = decode
    return found


#: The type's name → what the driver's values are; of the others it is not known.
_KINDS: Dict[str, Kind] = {
    "bool": Kind((bool,)),
    "int2": Kind((int,)),
    "int4": Kind((int,)),
    "int8": Kind((int,)),
    "oid": Kind((int,)),
    "float4": Kind((float,)),
    "float8": Kind((float,)),
    "numeric": Kind((Decimal,)),
    "text": Kind((str,)),
    "varchar": Kind((str,)),
    "bpchar": Kind((str,)),
    "bytea": Kind((bytes,)),
    "uuid": Kind((uuid.UUID,)),
    "date": Kind((datetime.date,)),
    "time": Kind((datetime.time,), False),
    "timetz": Kind((datetime.time,), True),
    "timestamp": Kind((datetime.datetime,), False),
    "timestamptz": Kind((datetime.datetime,), True),
    "interval": Kind((datetime.timedelta,)),
}


def kinds(types: Mapping[str, Type], table: Optional[Table], dialect: Dialect) -> Dict[str, Kind]:
    """Return of which kind each column's values are, but for those that may be anything."""
    found = {name: _kind(name, one, table, dialect) for name, one in types.items()}
    return {name: kind for name, kind in found.items() if kind is not None}


def _kind(name: str, kind: Type, table: Optional[Table], dialect: Dialect) -> Optional[Kind]:
    if table is not None and _orm(name, kind, table, dialect) is not None:
        return declared(_column(table, name).type)
    if kind.element is not None:
        return Kind((list,))
    return None if kind.bounds is not None else _KINDS.get(kind.name, SCALAR)


def _driver(kind: Type) -> Optional[Decoder]:
    """Return what makes the driver's value of the log's.

    A type that is not PostgreSQL's own stands in the log as text. 0.1 wrote it as
    row_to_json() did, and such rows are still there.
    """
    if kind.element is not None:
        # One of PostgreSQL's own is a list already.
        same = kind.builtin and _driver(kind.element) is None
        return None if same else _array(kind, kind.element)
    if kind.fields is not None:
        return _composite(kind.fields)
    if kind.bounds is not None and kind.bounds.name in _RANGES:
        return _range(kind.bounds)
    if kind.name == "hstore":
        return _hstore
    return _BY_NAME.get(kind.name) if kind.builtin else None


def _from_text(kind: Type) -> Optional[Decoder]:
    """Return the same for a value inside of one that stands in the log as text."""
    if kind.element is not None:
        return _array(kind, kind.element)
    return _TEXTS.get(kind.name, _driver(kind)) if kind.builtin else _driver(kind)


def _array(kind: Type, element: Type) -> Decoder:
    from_json, from_text = _driver(element), _from_text(element)

    def decode(value: Any) -> Any:
        if isinstance(value, str):
            return _each(literals.array(value, kind.delimiter), from_text)
        return _each(value, from_json)

    return decode


def _each(value: Any, decode: Optional[Decoder]) -> Any:
    if isinstance(value, list):
        return [_each(item, decode) for item in value]
    return _one(value, decode)


def _one(value: Any, decode: Optional[Decoder]) -> Any:
    return value if value is None or decode is None else decode(value)


def _composite(fields: Dict[str, Type]) -> Decoder:
    """Return a decoder that gives a dict: psycopg2 has the text alone."""
    from_json = {name: _driver(kind) for name, kind in fields.items()}
    from_text = {name: _from_text(kind) for name, kind in fields.items()}

    def decode(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: _one(item, from_json.get(name)) for name, item in value.items()}
        texts = literals.composite(value) if fields else []
        if len(texts) != len(fields):
            raise ValueError("a value of another time, before the type was altered")
        return {name: _one(text, from_text[name]) for name, text in zip(fields, texts)}

    return decode


def _hstore(value: Any) -> Any:
    return literals.hstore(value) if isinstance(value, str) else value


def _range(bounds: Type) -> Decoder:
    make = _RANGES[bounds.name]
    # The text of a bound is the database's, not JSON's.
    read: Decoder = int if bounds.name in ("int4", "int8") else _BY_NAME[bounds.name]

    def decode(text: str) -> Any:
        if text == "empty":
            return make(empty=True)
        lower, upper = _bounds(text[1:-1])
        return make(
            None if lower is None else read(lower),
            None if upper is None else read(upper),
            text[0] + text[-1],
        )

    return decode


def _bounds(text: str) -> List[Optional[str]]:
    """Split a range's two bounds; they are quoted where they hold a comma or a space."""
    lower, upper = text.split(",")  # numbers and dates hold none
    return [bound.strip('"') or None for bound in (lower, upper)]


def _orm(name: str, kind: Type, table: Optional[Table], dialect: Dialect) -> Optional[Decoder]:
    column = None if table is None else _column(table, name)
    if column is None:
        return None
    if isinstance(getattr(column.type, "item_type", column.type), HSTORE):
        return None  # hstore arrives as the dict that the ORM makes of it
    try:
        implementation = column.type.dialect_impl(dialect)
        return implementation.result_processor(dialect, kind.oid)  # type: ignore[no-any-return]
    except Exception:
        return None  # a declared type that cannot be: the ORM could not read it either


def _column(table: Table, name: str) -> Any:
    # By the column's name in the database; table.c goes by the key.
    return next((column for column in table.c if column.name == name), None)
