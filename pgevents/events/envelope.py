"""The JSON of an event: which fields it has, and of which types."""

import json
from typing import Any, Dict, Tuple

from .values import parse_datetime

#: What reading JSON raises that holds no event.
NOT_ONE = (ValueError, TypeError, LookupError, AttributeError, ArithmeticError, RecursionError)

_OPERATIONS = ("insert", "update", "delete", "truncate", "read")
_NONE = type(None)
_FIELDS: Dict[str, Tuple[type, ...]] = {
    "position": (int,),
    "transaction": (int, _NONE),
    "at": (str,),
    "topic": (str,),
    "operation": (str,),
    "schema": (str, _NONE),
    "table": (str,),
    "key": (list,),
    "old": (dict, _NONE),
    "new": (dict, _NONE),
    "changed": (list,),
    "context": (str, _NONE),
    "attempt": (int,),
    "redelivered": (bool,),
}


def parse_fields(text: Any) -> Dict[str, Any]:
    """Read the fields of an event. Raises one of NOT_ONE for what is no event's JSON."""
    given = {"declared": True, **json.loads(text)}  # 0.1 does not write how the types were known
    for name, kinds in _FIELDS.items():
        _require(type(given[name]) in kinds, name, given[name])  # a bool is no int here
    for name in ("key", "changed"):
        _require(all(isinstance(item, str) for item in given[name]), name, given[name])
    _require(given["operation"] in _OPERATIONS, "operation", given["operation"])
    _require(given["attempt"] >= 1, "attempt", given["attempt"])
    _require(parse_datetime(given["at"]).tzinfo is not None, "at", given["at"])
    _require(type(given["declared"]) is bool, "declared", given["declared"])
    return given


def _require(right: bool, name: str, value: Any) -> None:
    if not right:
        raise ValueError(f"{name}: {value!r:.40}")
