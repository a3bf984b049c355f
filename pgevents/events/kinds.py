"""Of which type a column's values are, and what they can equal: for ``where={"id": 7}``."""

import datetime
import uuid
from decimal import Decimal
from enum import Enum, EnumMeta
from typing import Any, NamedTuple, Optional, Tuple

from sqlalchemy import JSON

_NUMBERS = (int, float, Decimal)
_BYTES = (bytes, bytearray, memoryview)
_CLOCKS = (datetime.datetime, datetime.time)
#: Types of which it is known what equals them.
_KNOWN = {
    bool,
    str,
    datetime.date,
    datetime.timedelta,
    uuid.UUID,
    *_NUMBERS,
    *_BYTES,
    *_CLOCKS,
    list,
    tuple,
    dict,
    set,
    frozenset,
}


class Kind(NamedTuple):
    """What a column's values are: ``types``; ``aware``, whether times have a zone, if known."""

    types: Tuple[type, ...]
    aware: Optional[bool] = None

    def __str__(self) -> str:
        zone = {None: "", True: " with time zone", False: " without time zone"}[self.aware]
        return " or ".join(one.__name__ for one in self.types) + zone

    def may_equal(self, value: Any) -> bool:
        """Tell whether some value of this kind can equal ``value``."""
        if value is None or not (type(value) in _KNOWN or isinstance(value, Enum)):
            return True  # a class of the application's own may equal anything
        return any(_may_equal(value, one) for one in self.types) and self._has_my_zone(value)

    def _has_my_zone(self, value: Any) -> bool:
        if self.aware is None or not isinstance(value, _CLOCKS):
            return True
        return (value.tzinfo is not None) == self.aware


#: What a value may be that came as JSON, and was of no type that is known better.
SCALAR = Kind((str, int, float, Decimal, bool, list, dict))


def declared(kind: Any) -> Optional[Kind]:
    """Return the kind of a column's values by its type in SQLAlchemy; None where it may be any."""
    if isinstance(kind, JSON):
        return SCALAR
    ours = type(kind)
    if ours.__module__.partition(".")[0] != "sqlalchemy" and "python_type" not in vars(ours):
        return None  # made by the application: its values are what it makes of them
    try:
        found = kind.python_type
    except NotImplementedError:
        return None
    if found is list and getattr(kind, "as_tuple", False):
        return Kind((tuple,))
    return Kind((found,)) if isinstance(found, type) else None


def _may_equal(value: Any, kind: type) -> bool:
    if isinstance(kind, EnumMeta):
        members: Any = kind
        return any(member == value for member in members)
    if kind is datetime.date:
        return isinstance(value, kind) and not isinstance(value, datetime.datetime)
    if kind in (*_NUMBERS, bool):
        return isinstance(value, _NUMBERS) and _is_exact(value, kind)
    if kind is bytes:
        return isinstance(value, _BYTES)
    return isinstance(value, kind)


def _is_exact(value: Any, kind: Any) -> bool:
    """Tell whether a number is one of this type; 9.9 is no Decimal("9.9"), and equals none."""
    try:
        found = kind(repr(value)) if kind is Decimal and isinstance(value, float) else kind(value)
        return bool(found == value)
    except (ValueError, ArithmeticError):
        return False


def describe(value: Any) -> str:
    """Describe a value for an error message."""
    return f"{value!r:.60}, a {type(value).__name__}"
