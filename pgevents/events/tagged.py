"""Values outside JSON, as JSON with tags: ``{"$decimal": "9.90"}``.

An object of the user's own that looks like this is wrapped in ``{"$object": …}``.
"""

import base64
import datetime
import decimal
import math
import sys
import types
import uuid
from enum import Enum, EnumMeta
from typing import Any, Callable, Dict, Mapping, Optional, Tuple

from ..errors import UsageError
from .values import Row, parse_datetime, parse_time


class Untagged(Exception):
    """There is no tag for a value, or for one that it holds."""


def to_tagged(value: Any) -> Any:
    """Return ``value`` with tags where JSON has no such type. Raises Untagged."""
    if value is None or type(value) in (str, int, bool):
        return value
    if isinstance(value, Enum):
        return _enum_tag(value)
    if isinstance(value, float):
        return value if math.isfinite(value) else {"$float": str(value)}
    tag = simple_tag(value)
    if tag is not None:
        return tag
    if isinstance(value, (str, int)):  # subclasses
        return value
    if isinstance(value, list):
        return [to_tagged(item) for item in value]
    if isinstance(value, tuple):
        return {"$tuple": [to_tagged(item) for item in value]}
    if isinstance(value, (set, frozenset)):
        return {"$set": [to_tagged(item) for item in value]}
    if isinstance(value, Mapping):
        return _mapping_tag(value)
    raise Untagged(type(value).__name__)


def simple_tag(value: Any) -> Any:
    """Return the tag of a Decimal, a date, a time, a UUID or bytes; None for anything else."""
    for kind, tag in _SIMPLE:
        if isinstance(value, kind):
            return tag(value)
    return None


def from_tagged(value: Any) -> Any:
    """Undo ``to_tagged``. Raises ValueError, TypeError and the like for what it never made."""
    if isinstance(value, list):
        return [from_tagged(item) for item in value]
    if isinstance(value, dict):
        if len(value) == 1:
            ((tag, given),) = value.items()
            if tag in TAGS:
                kind, read = TAGS[tag]
                if not isinstance(given, kind):
                    raise TypeError(f"{tag} of {given!r:.40}")
                return read(given)
        return {name: from_tagged(item) for name, item in value.items()}
    return value


def row_to_tagged(row: Optional[Mapping[str, Any]], raw: Any) -> Any:
    """Return a row for JSON; ``raw`` has its values as the log has them, for those without tag."""
    if row is None:
        return None
    return {name: _value_or(raw[name], value) for name, value in row.items()}


def row_from_tagged(row: Any) -> Optional[Row]:
    """Undo ``row_to_tagged``."""
    return None if row is None else Row((name, from_tagged(value)) for name, value in row.items())


def _value_or(raw: Any, value: Any) -> Any:
    try:
        return to_tagged(value)
    except Untagged:
        pass
    try:
        return to_tagged(raw)
    except Untagged as error:  # of a fake hub: there is no log
        raise UsageError(f"a value of the type {error} has no form in JSON") from None


# datetime is a date, too: it has to come first.
_SIMPLE: Tuple[Tuple[type, Callable[[Any], Any]], ...] = (
    (decimal.Decimal, lambda v: {"$decimal": str(v)}),
    (datetime.datetime, lambda v: {"$datetime": v.isoformat()}),
    (datetime.date, lambda v: {"$date": v.isoformat()}),
    (datetime.time, lambda v: {"$time": v.isoformat()}),
    (datetime.timedelta, lambda v: {"$timedelta": [v.days, v.seconds, v.microseconds]}),
    (uuid.UUID, lambda v: {"$uuid": str(v)}),
    (bytes, lambda v: {"$bytes": base64.b64encode(v).decode("ascii")}),
)

#: What each tag holds, and how that is read.
TAGS: Dict[str, Tuple[type, Callable[[Any], Any]]] = {
    "$decimal": (str, decimal.Decimal),
    "$datetime": (str, parse_datetime),
    "$date": (str, datetime.date.fromisoformat),
    "$time": (str, parse_time),
    "$timedelta": (list, lambda given: datetime.timedelta(*given)),
    "$uuid": (str, uuid.UUID),
    "$bytes": (str, base64.b64decode),
    "$float": (str, float),
    "$tuple": (list, lambda given: tuple(map(from_tagged, given))),
    "$set": (list, lambda given: frozenset(map(from_tagged, given))),
    "$enum": (list, lambda given: _enum(*given)),
    "$dict": (list, lambda given: {from_tagged(k): from_tagged(v) for k, v in given}),
    "$object": (dict, lambda given: {name: from_tagged(item) for name, item in given.items()}),
}


def _enum_tag(value: Enum) -> Any:
    kind = type(value)
    if kind.__members__.get(value.name or "") is not value:
        raise Untagged(kind.__name__)  # flags that have no name together
    return {"$enum": [kind.__module__, kind.__qualname__, value.name]}


def _mapping_tag(value: Mapping[Any, Any]) -> Any:
    if not all(isinstance(name, str) and not isinstance(name, Enum) for name in value):
        # JSON would make texts of them.
        return {"$dict": [[to_tagged(name), to_tagged(item)] for name, item in value.items()]}
    tagged = {str(name): to_tagged(item) for name, item in value.items()}
    return {"$object": tagged} if len(tagged) == 1 and next(iter(tagged)) in TAGS else tagged


def _enum(module: str, qualname: str, name: str) -> Any:
    """Return a member of an Enum; its name, where there is no such Enum here, or no member."""
    if not isinstance(name, str):
        raise TypeError(f"$enum of {name!r:.40}")
    # Only what is imported already: a message must not make us import modules.
    found: Any = sys.modules.get(module)
    for part in qualname.split("."):
        found = (_namespace(found) or {}).get(part)
    members = found.__members__ if issubclass(type(found), EnumMeta) else {}
    return members.get(name, name)


def _namespace(thing: Any) -> Optional[Mapping[str, Any]]:
    """Return what a module or class holds, without a call to code of its own (__getattr__)."""
    if issubclass(type(thing), types.ModuleType):
        return object.__getattribute__(thing, "__dict__")  # type: ignore[no-any-return]
    if issubclass(type(thing), type):
        return type.__dict__["__dict__"].__get__(thing)  # type: ignore[no-any-return]
    return None
