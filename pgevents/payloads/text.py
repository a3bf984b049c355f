"""A payload as JSON text, and back: exactly, or refused before the database is asked.

What JSON has stays as it is, so that SQL and other languages can read it. Decimal, dates,
times, UUIDs, bytes and tuples get a tag (``{"$decimal": "9.90"}``) and come back as they
were. Everything else is refused: a NaN, a set, a key that is no text, half a character
would come back as something else, or not at all.
"""

import decimal
import json
import math
from enum import Enum
from typing import Any, Callable, Mapping, Optional

from ..errors import UsageError
from ..events.tagged import TAGS, from_tagged, simple_tag
from .models import fields_of

#: Makes of a payload what JSON can hold; and of that the payload.
Codec = Callable[[Any], Any]

NOTIFY_BYTES = 7999  # that fit into one notification of PostgreSQL


class _Inexact(Exception):
    """A value would not come back as it is: where it stands, and why."""

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.why = why
        self.place = ""


def to_text(value: Any, encoder: Optional[Codec] = None, what: str = "payload") -> str:
    """Return a value as JSON text in ASCII, which any database can store.

    Objects with declared fields (dataclass, attrs, pydantic) become JSON objects. Raises
    UsageError, which says where in ``what`` it is, for what would not come back as it is.
    """
    if encoder is not None:
        value = encoder(value)
    try:
        return _dumps(_exact(value, False))
    except _Inexact as error:
        raise UsageError(f"{what}{error.place}: {error.why}") from None
    except RecursionError:
        raise UsageError(f"{what} is nested too deeply, or holds itself") from None


def from_text(text: str, decoder: Optional[Codec] = None) -> Any:
    """Return the value of a JSON text that ``to_text()``, or somebody in SQL, has written.

    A number is an int or a float; one of more digits than a float has is a Decimal. Raises
    ValueError for what is no JSON.
    """
    value = _parse(text)
    if '"$' in text:
        value = _untagged(value)
    return value if decoder is None else decoder(value)


def payload_size(payload: Any, encoder: Optional[Codec] = None) -> int:
    """Return how many bytes a payload has as JSON text. Raises UsageError as publish() does."""
    return len(to_text(payload, encoder))


def fits_notify(text: str) -> bool:
    """Tell whether a text fits into one native notification: 7,999 bytes in UTF-8."""
    if not isinstance(text, str):
        raise UsageError(f"a notification is a text, not {text!r:.60}")
    return len(text.encode("utf-8", "surrogatepass")) <= NOTIFY_BYTES


def _exact(value: Any, declared: bool) -> Any:
    """Return a value for JSON. In a field that a class declares, its type says what it was."""
    kind = type(value)
    if value is None or kind is bool or kind is int:
        return value
    if isinstance(value, str) and not isinstance(value, Enum):
        return _text(value)
    if kind is float:
        return _finite(value)
    if isinstance(value, list):
        return _items(value, declared)
    if isinstance(value, Mapping):
        return _object(value, declared)
    if isinstance(value, Enum):
        return _member(value, declared)
    if isinstance(value, (int, float)):
        return _finite(value) if isinstance(value, float) else int(value)
    if declared and isinstance(value, (tuple, set, frozenset)):
        return _items(value, declared)
    if kind is tuple:
        return {"$tuple": _items(value, declared)}
    return _other(value)


def _other(value: Any) -> Any:
    tag = simple_tag(value)
    if tag is not None:
        return tag
    fields = fields_of(value)
    if fields is not None:
        return _object(fields, True)
    what = type(value).__name__
    if isinstance(value, (set, frozenset)):
        raise _Inexact(f"JSON has no {what}: give a sorted list")
    if isinstance(value, tuple):
        raise _Inexact(f"a {what} would come back as a tuple: give a tuple, or a dict")
    raise _Inexact(
        f"JSON has no {what}: give JSON types, a dataclass, an attrs or pydantic object, or an"
        " encoder"
    )


def _text(value: str) -> str:
    if not value.isascii():
        try:
            value.encode()
        except UnicodeEncodeError:
            raise _Inexact(f"{value!r:.60} holds half a character (a lone surrogate)") from None
    return value


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise _Inexact(f"JSON has no {value}: give None or a text")
    return value


def _member(value: Enum, declared: bool) -> Any:
    if declared:
        return _exact(value.value, declared)
    raise _Inexact(f"{value} would come back as {value.value!r:.40}: give its value or its name")


def _items(values: Any, declared: bool) -> Any:
    found = []
    for index, item in enumerate(values):
        try:
            found.append(_exact(item, declared))
        except _Inexact as error:
            error.place = f"[{index}]{error.place}"
            raise
    return found


def _object(value: Mapping[Any, Any], declared: bool) -> Any:
    found = {}
    for name, item in value.items():
        if not isinstance(name, str) or isinstance(name, Enum):
            raise _Inexact(f"the key {name!r:.60} is no text, and would come back as one")
        _text(name)
        try:
            found[str(name)] = _exact(item, declared)
        except _Inexact as error:
            error.place = f"[{name!r:.40}]{error.place}"
            raise
    return {"$object": found} if len(found) == 1 and next(iter(found)) in TAGS else found


def _untagged(value: Any) -> Any:
    try:
        return from_tagged(value)
    except (ValueError, TypeError, LookupError, ArithmeticError):
        return value  # written by somebody else, who means something else by it


def _float(text: str) -> Any:
    value = float(text)
    try:
        exact = decimal.Decimal(text)
    except decimal.InvalidOperation:  # an exponent of nineteen digits
        return text
    return value if math.isfinite(value) and decimal.Decimal(repr(value)) == exact else exact


def _int(text: str) -> Any:
    try:
        return int(text)
    except ValueError:  # more digits than Python makes an int of
        return decimal.Decimal(text)


_dumps = json.JSONEncoder(allow_nan=False, separators=(",", ":"), check_circular=False).encode
_parse: Callable[[str], Any] = json.JSONDecoder(parse_float=_float, parse_int=_int).decode
