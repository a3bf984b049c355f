"""Types of events: name ↔ class, versions, and what makes a newer version of an older one.

    stored     type "order.paid", version 1, data {"cents": 990}
       │ upcaster of ("order.paid", 1)
       ▼
    version 2  {"amount": "9.90"} ──▶ Paid(amount=Decimal("9.90"))

What nobody has registered, or a newer release has written, is a dict.
"""

import json
from typing import Any, Callable, Dict, Mapping, NamedTuple, Optional, Tuple

from .. import checks
from ..database.store import StreamKey, WrittenEvent
from ..errors import UsageError
from ..payloads.models import check_model, is_model, to_model
from ..payloads.text import from_text, to_text
from .codec import Change, about
from .names import version

Upcaster = Callable[[Any, Mapping[str, Any]], Any]


class EventType(NamedTuple):
    """A type of events, in its newest version."""

    name: str
    version: int
    kind: Optional[type] = None  # of its data; None: a dict


class Types:
    """The types that one hub knows."""

    def __init__(self) -> None:
        self._by_name: Dict[str, EventType] = {}
        self._by_kind: Dict[type, EventType] = {}
        self._upcasters: Dict[Tuple[str, int], Upcaster] = {}
        self.encode: Optional[Change] = None
        self.decode: Optional[Change] = None

    def register(self, name: str, number: int, kind: type) -> None:
        """Let objects of a class be events of this type. Raises UsageError."""
        new = EventType(checks.name("type", name), version("version", number, 1), kind)
        check_model(kind)
        former = self._by_name.get(name)
        if former not in (None, new):
            raise UsageError(f"the type {name!r} is {former.kind} already" if former else "")
        other = self._by_kind.get(kind, new)
        if other != new:
            raise UsageError(f"{kind.__qualname__} is registered as {other.name!r} already")
        self._by_name[name] = self._by_kind[kind] = new

    def upcaster(self, name: str, number: int, fn: Upcaster) -> None:
        """Let ``fn(data, metadata)`` make the next version of data of this one."""
        place = checks.name("type", name), version("version", number, 1)
        if self._upcasters.setdefault(place, fn) is not fn:
            raise UsageError(f"the type {name!r} has an upcaster of version {number} already")

    def name_of(self, given: Any) -> str:
        """Return the name of a type that is given by its name or its class. Raises UsageError."""
        if isinstance(given, str):
            return checks.name("type", given)
        found = self._by_kind.get(given) if isinstance(given, type) else None
        if found is None:
            raise UsageError(f"{given!r} is no registered type: put @streams.event(…) above it")
        return found.name

    def written(self, event: Any, key: StreamKey, metadata: Optional[str]) -> WrittenEvent:
        """Return an event as it is stored. Raises UsageError for what would not come back."""
        kind = self._type_of(event)
        data: Any = to_text(event, what=f"the event {kind.name!r}")
        if self.encode is not None:
            data = to_text(self.encode(json.loads(data), about(key, kind.name)), what="encode()")
        return WrittenEvent(kind.name, kind.version, data, metadata)

    def read(
        self, name: str, number: int, text: str, key: StreamKey, metadata: Mapping[str, Any]
    ) -> Any:
        """Return what was appended, in the newest version; a dict where there is no class for it.

        Raises UsageError where the class does not take it, and what an upcaster or
        ``decode()`` raises.
        """
        if self.decode is not None:
            text = to_text(self.decode(json.loads(text), about(key, name)), what="decode()")
        data, number = self._upcast(name, number, from_text(text), metadata)
        known = self._by_name.get(name)
        if known is None or known.kind is None or known.version < number or data is None:
            return data
        return to_model(known.kind, data)

    def state(self, state: Any) -> Tuple[Optional[str], str]:
        """Return a snapshot's state as it is stored, and its class's name, if it is registered."""
        known = self._by_kind.get(type(state))
        return known and known.name, to_text(state, what="the state")

    def read_state(self, name: Optional[str], text: str) -> Any:
        """Undo ``state()``."""
        known = self._by_name.get(name or "")
        value = from_text(text)
        return value if known is None or known.kind is None else to_model(known.kind, value)

    def _upcast(
        self, name: str, number: int, data: Any, metadata: Mapping[str, Any]
    ) -> Tuple[Any, int]:
        while (name, number) in self._upcasters and data is not None:
            data, number = self._upcasters[name, number](data, metadata), number + 1
        return data, number

    def _type_of(self, event: Any) -> EventType:
        found = self._by_kind.get(type(event))
        if found is not None:
            return found
        if is_model(type(event)):
            raise UsageError(
                f"{type(event).__qualname__} is no registered type: put @streams.event(…) above it"
            )
        if not isinstance(event, Mapping) or not isinstance(event.get("type"), str):
            raise UsageError(
                f"no event: {event!r:.80}. Give an object of a registered class, or a dict with"
                ' the type\'s name under "type"'
            )
        name = checks.name("type", event["type"])
        return EventType(name, self._newest(name))

    def _newest(self, name: str) -> int:
        """Return the version that is written of a type without a class."""
        known = self._by_name.get(name)
        if known is not None:
            return known.version
        return max((number + 1 for other, number in self._upcasters if other == name), default=1)
