"""Listening through SQLAlchemy's own ``event`` functions.

    from sqlalchemy import event

    @event.listens_for(pgevents.changes(Order), "after_insert")
    def send_receipt(change): ...

``listen``, ``remove``, ``contains`` and ``once=True`` are SQLAlchemy's, and
behave as everywhere in SQLAlchemy; the calls come from a hub.
"""

import weakref
from typing import Any, Callable, Dict, Optional, Tuple

from sqlalchemy import event

from ..events.event import Event
from .listener import Listener
from .registry import Registry, default
from .table_listener import TableListener
from .target import ANY, as_target, moments_of


class Changes:
    """The changes of one table, as something that SQLAlchemy can listen to."""

    dispatch: Any  # set by SQLAlchemy: identifier → collection of functions

    def __init__(self, target: Any, registry: Registry) -> None:
        self.target = target
        self.registry = registry

    def __repr__(self) -> str:
        return f"changes({self.target!r})"


class ChangeEvents(event.Events):  # type: ignore[type-arg]
    """The moments, declared the way SQLAlchemy declares its own events."""

    _target_class_doc = "pgevents.changes(Order)"
    _dispatch_target = Changes

    @classmethod
    def _listen(cls, event_key: Any, **kw: Any) -> None:
        changes, identifier = event_key.dispatch_target, event_key.identifier
        if not kw.get("named"):  # else SQLAlchemy calls it, with keywords
            TableListener(
                event_key._listen_fn, changes.target
            )  # raises here, not at the first event
        bridge = _Bridge(changes, identifier)
        changes.registry.add(bridge, moments_of(identifier))
        event_key.base_listen(**kw)

    def after_insert(self, change: Event) -> None:
        """A row was inserted."""

    def after_update(self, change: Event) -> None:
        """A row was updated."""

    def after_delete(self, change: Event) -> None:
        """A row was deleted."""

    def after_truncate(self, change: Event) -> None:
        """The table was truncated."""

    def after_change(self, change: Event) -> None:
        """A row was inserted, updated or deleted."""


class _Bridge(TableListener):
    """Stands in a registry for whatever functions SQLAlchemy holds at the time of the event."""

    stands_in = True

    def __init__(self, changes: Changes, identifier: str) -> None:
        super().__init__(_never, changes.target)
        self._changes = changes
        self._identifier = identifier
        self._listeners: Dict[Callable[..., Any], Listener] = {}

    def calls(self) -> Tuple[Listener, ...]:
        known = self._listeners
        now = {fn: known.get(fn) or self._listener(fn) for fn in self._functions()}
        self._listeners = now
        return tuple(now.values())

    def same_as(self, other: Listener) -> bool:
        return (
            isinstance(other, _Bridge)
            and other._changes is self._changes
            and other._identifier == self._identifier
        )

    def _functions(self) -> Tuple[Callable[..., Any], ...]:
        return tuple(getattr(self._changes.dispatch, self._identifier))

    def _listener(self, fn: Callable[..., Any]) -> Listener:
        return TableListener(fn, self._changes.target)


def _never(_: Event) -> None:
    raise AssertionError("a bridge is asked for its calls(), it is not called")


_known: "weakref.WeakKeyDictionary[Registry, Dict[Any, Changes]]" = weakref.WeakKeyDictionary()


def changes(target: Any, registry: Optional[Registry] = None) -> Changes:
    """Return what SQLAlchemy's ``event.listen`` takes for a table.

    ``target`` is a mapped class, a Table, a name or ANY, as in
    ``pgevents.listen``; the same target gives the same object. Raises
    UsageError.
    """
    of_registry = _known.setdefault(registry or default, {})
    if target not in of_registry:
        if target is not ANY:
            as_target(target)  # raises here, not at the first listener
        of_registry[target] = Changes(target, registry or default)
    return of_registry[target]
