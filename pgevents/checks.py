"""What callers give, checked at once: UsageError names the argument, the value and the choice."""

import math
from typing import Any

from .errors import UsageError


def whole(what: str, value: Any, least: int = 1) -> int:
    """Return a whole number of ``least`` or more."""
    if type(value) is not int or value < least:
        raise UsageError(f"{what}={value!r}: give a whole number, {least} or more")
    return value


def seconds(what: str, value: Any, least: float = 0.0) -> float:
    """Return a finite number of seconds, ``least`` or more."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not number or not math.isfinite(value) or value < least:
        raise UsageError(f"{what}={value!r}: give seconds, {least:g} or more")
    return float(value)


def name(what: str, value: Any) -> str:
    """Return a name that a database can hold."""
    if not isinstance(value, str) or not value:
        raise UsageError(f"{what}={value!r}: give a name")
    try:
        value.encode("utf-8")
    except UnicodeEncodeError:
        raise UsageError(f"{what}={value!r}: that is not Unicode text") from None
    if "\0" in value:
        raise UsageError(f"{what}={value!r}: a name holds no NUL character")
    return value
