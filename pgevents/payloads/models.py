"""Objects of classes with declared fields, as dicts and back: dataclasses, attrs, pydantic.

Neither attrs nor pydantic is imported: their classes are known by what they bear.
"""

import dataclasses
import datetime
import decimal
import json
import typing
import uuid
from enum import Enum
from typing import Any, Callable, Dict, List, Mapping, Optional, Sequence, Tuple

from ..errors import UsageError
from ..events.values import parse_datetime, parse_time

#: Types that may come as text, from a writer in SQL: how each is read.
_FROM_TEXT: Dict[Any, Callable[[str], Any]] = {
    datetime.datetime: parse_datetime,
    datetime.date: datetime.date.fromisoformat,
    datetime.time: parse_time,
    decimal.Decimal: decimal.Decimal,
    uuid.UUID: uuid.UUID,
}

_SEQUENCES = {
    list: list,
    set: set,
    frozenset: frozenset,
    tuple: tuple,
    Sequence.__origin__: list,  # type: ignore[attr-defined]
}
_WRONG = (TypeError, ValueError, LookupError, ArithmeticError)


def is_model(kind: Any) -> bool:
    """Tell whether objects of a class have declared fields that are known here."""
    return isinstance(kind, type) and (
        dataclasses.is_dataclass(kind) or hasattr(kind, "__attrs_attrs__") or _is_pydantic(kind)
    )


def fields_of(value: Any) -> Optional[Dict[str, Any]]:
    """Return the fields of a model's object, name → value; None for any other object.

    What a pydantic object gives is JSON already; of the others the values are as they are.
    """
    kind = type(value)
    if not is_model(kind):
        return None
    if _is_pydantic(kind):
        dump = getattr(value, "model_dump", None)
        return dict(dump(mode="json")) if dump is not None else _pydantic_1(value)
    return {name: getattr(value, name) for name in _names(kind)}


def to_model(kind: Any, given: Any) -> Any:
    """Return an object of the class ``kind`` with the fields ``given``, nested ones too.

    Fields that the class does not declare are left out, since a newer writer may send them.
    Raises UsageError for what the class does not take.
    """
    try:
        return _made(kind, given)
    except UsageError:
        raise
    except Exception as error:  # of a constructor or a validator of the application's
        raise UsageError(f"no {_label(kind)} can be made of the payload: {error}") from error


def check_model(kind: Any) -> None:
    """Raise UsageError for what is no class with declared fields."""
    if not is_model(kind):
        raise UsageError(f"type={kind!r}: give a dataclass, an attrs class or a pydantic model")


def _made(kind: Any, given: Any) -> Any:
    if _is_pydantic(kind):
        validate = getattr(kind, "model_validate", None) or kind.parse_obj
        return validate(given)
    if not isinstance(given, Mapping):
        raise UsageError(
            f"no {_label(kind)} can be made of the payload: its fields come as an object, and this"
            f" is {given!r:.60}"
        )
    hints = typing.get_type_hints(kind)
    arguments = {
        argument: _as(hints.get(name, Any), given[name])
        for name, argument in _arguments(kind)
        if name in given
    }
    return kind(**arguments)


def _as(hint: Any, value: Any) -> Any:
    """Return a value as an annotation wants it; as it is where that says nothing."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin is None:
        return _as_plain(hint, value)
    if _is_union(origin):
        return _as_one_of(inner, value)
    if origin in _SEQUENCES and isinstance(value, (list, tuple)):
        return _SEQUENCES[origin](_items(origin, inner, value))
    if isinstance(value, dict) and isinstance(origin, type) and issubclass(origin, Mapping):
        key, item = inner or (Any, Any)
        return {_as(key, name): _as(item, one) for name, one in value.items()}
    return value


def _as_plain(hint: Any, value: Any) -> Any:
    if is_model(hint) and isinstance(value, Mapping):
        return _made(hint, value)
    if isinstance(hint, type) and issubclass(hint, Enum) and not isinstance(value, hint):
        return hint(value)
    if hint in _SEQUENCES and isinstance(value, list):
        return _SEQUENCES[hint](value)
    if isinstance(value, str) and hint in _FROM_TEXT:
        return _FROM_TEXT[hint](value)
    if hint is decimal.Decimal and isinstance(value, (int, float)):
        return decimal.Decimal(str(value))
    return value


def _as_one_of(hints: Tuple[Any, ...], value: Any) -> Any:
    if value is None and type(None) in hints:
        return None
    if any(isinstance(hint, type) and type(value) is hint for hint in hints):
        return value
    for hint in hints:
        if hint is type(None):
            continue
        try:
            return _as(hint, value)
        except (UsageError, *_WRONG):
            continue
    return value


def _items(origin: Any, inner: Tuple[Any, ...], values: Sequence[Any]) -> List[Any]:
    if origin is tuple and inner and inner[-1] is not Ellipsis:
        return [_as(hint, one) for hint, one in zip(inner, values)]
    return [_as(inner[0] if inner else Any, one) for one in values]


def _is_union(origin: Any) -> bool:
    return origin is typing.Union or getattr(origin, "__name__", "") == "UnionType"


def _names(kind: Any) -> List[str]:
    if dataclasses.is_dataclass(kind):
        return [field.name for field in dataclasses.fields(kind)]
    return [field.name for field in kind.__attrs_attrs__]


def _arguments(kind: Any) -> List[Tuple[str, str]]:
    """Return each field that the constructor takes, and the name of its argument."""
    if dataclasses.is_dataclass(kind):
        return [(field.name, field.name) for field in dataclasses.fields(kind) if field.init]
    return [
        # attrs takes a private field without its underscores.
        (field.name, getattr(field, "alias", None) or field.name.lstrip("_"))
        for field in kind.__attrs_attrs__
        if field.init
    ]


def _is_pydantic(kind: type) -> bool:
    return hasattr(kind, "model_validate") or hasattr(kind, "__pydantic_model__") or _is_v1(kind)


def _is_v1(kind: type) -> bool:
    return hasattr(kind, "parse_obj") and hasattr(kind, "__fields__")


def _pydantic_1(value: Any) -> Dict[str, Any]:
    return dict(json.loads(value.json()))


def _label(kind: Any) -> str:
    return getattr(kind, "__qualname__", None) or repr(kind)
