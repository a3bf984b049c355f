"""Functions that are called within an append's transaction, and those after its commit."""

import threading
from collections import deque
from typing import Any, Callable, Deque, Dict, Iterator, List, NamedTuple, Optional, Tuple

from sqlalchemy.engine import Connection

from ..errors import UsageError
from .stored import Stored

DEPTH = 10  # appends that one append may cause, each by a listener of the one before


class Told(NamedTuple):
    """A function, and the events that it is called with."""

    fn: Callable[..., Any]
    names: Tuple[str, ...]  # of types …
    kinds: Tuple[type, ...]  # … and classes of data, or base classes; neither: all
    category: Optional[str]

    def wants(self, event: Stored) -> bool:
        """Tell whether it is called with an event."""
        if self.category is not None and event.category != self.category:
            return False
        if not self.names and not self.kinds:
            return True
        return event.type in self.names or bool(self.kinds) and isinstance(event.data, self.kinds)


def told(fn: Callable[..., Any], types: Tuple[Any, ...], category: Optional[str]) -> Told:
    """Return a function with what it asks for. Raises UsageError."""
    if not callable(fn):
        raise UsageError(f"cannot call {fn!r}: a listener is a function")
    for one in types:
        if not isinstance(one, (str, type)):
            raise UsageError(f"no type of events: {one!r}. Give a class, or a type's name")
    names = tuple(one for one in types if isinstance(one, str))
    return Told(fn, names, tuple(one for one in types if isinstance(one, type)), category)


class Listeners:
    """The functions that one hub calls for what is appended here, in their order."""

    def __init__(self) -> None:
        self.within: List[Told] = []
        self.after: List[Told] = []
        self.depth = DEPTH
        self._here = threading.local()

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self.within or self.after)

    def call_within(self, events: List[Stored], connection: Connection) -> None:
        """Call the functions for events that were appended just now.

        What they append in this transaction has its turn when all of these were called. Raises
        what one of them raises.
        """
        here: Any = self._here
        running: Dict[int, Deque[Tuple[int, Stored]]] = here.__dict__.setdefault("running", {})
        mine = running.get(id(connection))
        if mine is not None:
            mine.extend((here.depth + 1, event) for event in events)
            return
        queue = running[id(connection)] = deque((1, event) for event in events)
        try:
            while queue:
                here.depth, event = queue.popleft()
                self._check_depth(here.depth, event)
                for fn in self._of(self.within, event):
                    fn(event, connection)
        finally:
            del running[id(connection)]

    def calls_after(self, events: List[Stored]) -> List[Callable[[], Any]]:
        """Return the calls that are to be made when these events are committed."""
        return [_call(fn, event) for event in events for fn in self._of(self.after, event)]

    def _check_depth(self, depth: int, event: Stored) -> None:
        if depth > self.depth:
            raise UsageError(
                f"in_transaction listeners append in a circle: {event!r} is the {depth}th in a"
                f" row, and the limit is {self.depth}"
            )

    def _of(self, listeners: List[Told], event: Stored) -> Iterator[Callable[..., Any]]:
        """Return the functions that are called with an event, each once."""
        found: List[Any] = []
        for one in list(listeners):
            if one.fn not in found and one.wants(event):
                found.append(one.fn)
        return iter(found)


def _call(fn: Callable[..., Any], event: Stored) -> Callable[[], Any]:
    return lambda: fn(event)
