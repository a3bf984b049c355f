"""Who listens to what.

    signals                    senders              receivers (Listener)
    after_insert ─┬─ "orders" ────────── send_receipt, reindex
                  └─ ANY ─────────────── audit
    after_update ─── "sales.orders" ──── ship
    message ──────── "channel:orders.*"  mail

One blinker signal for each moment; the sender is a table as its listener named
it (``Target.key``), or the topic of a channel or a pattern. A registry knows
nothing of databases: a hub translates a topic of its log ("public.orders")
into the keys that mean it.

The module's ``listens_for``, ``listen``, ``remove`` and ``contains`` are the
methods of a registry that is there from the start.
"""

import contextlib
import threading
import weakref
from itertools import count
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    List,
    Optional,
    Tuple,
    TypeVar,
    Union,
    cast,
)

import blinker

from ..errors import PgEventsError, UsageError
from .listener import Listener
from .table_listener import TableListener, Where
from .target import ANY, MOMENTS, as_target, moments_of

Function = TypeVar("Function", bound=Callable[..., Any])

#: The moments of changes, and that of a message.
ALL_MOMENTS = (*MOMENTS, "message", "event", "notify")


class Registry:
    """A set of listeners. Safe to use from several threads, and from inside a listener."""

    def __init__(self) -> None:
        self._signals = {moment: blinker.Signal() for moment in ALL_MOMENTS}
        self._listeners: Dict[str, List[Listener]] = {moment: [] for moment in ALL_MOMENTS}
        #: Moment and ``Listener.alike`` → listeners: with thousands, not each is compared.
        self._alike: Dict[Tuple[str, Any], List[Listener]] = {}
        self._order = count(1)
        self.lock = threading.RLock()  # held by a hub while the process forks
        self._hubs: "weakref.WeakSet[Any]" = weakref.WeakSet()
        #: Rises with each change, so that who keeps a look-up knows it is old.
        self.version = 0
        self._native: Tuple[int, FrozenSet[str]] = (-1, frozenset())  # channels, at this version
        self._plain = (-1, False)  # at this version: does anybody listen outside of groups?

    def listens_for(
        self, target: Any, *moments: str, **options: Any
    ) -> Callable[[Function], Function]:
        """Register the decorated function: see ``listen`` for the options."""
        identifier = moments_of(moments)

        def register(fn: Function) -> Function:
            self.listen(target, identifier, fn, **options)
            return fn

        return register

    def listen(
        self,
        target: Any,
        identifier: Union[str, Iterable[str]],
        fn: Callable[..., Any],
        *,
        columns: Optional[Iterable[Any]] = None,
        where: Where = None,
        batch: bool = False,
        once: bool = False,
        group: Optional[str] = None,
        transactional: bool = False,
    ) -> None:
        """Call ``fn(event)`` for each change of ``target`` at one or several moments.

        ``target`` is a mapped class, a Table, a name ("orders",
        "sales.orders") or ANY. ``identifier`` is ``after_insert``,
        ``after_update``, ``after_delete``, ``after_truncate``, or
        ``after_change`` for the first three; or a list of them.

        ``columns``: receive an update only when one of these really changed.
        ``where``: a dict that the row must match (the new one, or the one
        deleted), or a function of the event. ``batch``: call with a list of
        events. ``once``: call for the first event only. ``group``: of all the
        processes that name it, one gets each event, even one that was
        committed while none ran; ``transactional``: called with ``(event,
        connection)``, in one transaction with the group's acknowledgement.

        The same function with the same options is registered once. Raises
        UsageError; a hub that is running already also raises what installing
        a new table's triggers, or defining a group, raises, and then nothing is registered.
        """
        listener = TableListener(fn, target, columns, where, batch, once, group, transactional)
        self.add(listener, moments_of(identifier))

    def remove(self, target: Any, identifier: Union[str, Iterable[str]], fn: Any) -> None:
        """Take back ``listen``, whatever its options were. Raises UsageError if there is none."""
        senders = _senders(target)

        def is_meant(listener: Listener) -> bool:
            return bool(listener.fn == fn and listener.senders == senders)

        if not self.leave(moments_of(identifier), is_meant):
            raise UsageError(f"{fn!r} does not listen to {target!r} {identifier!r}")

    def leave(self, moments: Tuple[str, ...], is_meant: Callable[[Listener], bool]) -> bool:
        """Take back the listeners that are meant, at these moments; tell whether there were any."""
        with self.lock:
            found = [
                (moment, listener)
                for moment in moments
                for listener in self._listeners[moment]
                if is_meant(listener)
            ]
            hubs = list(self._hubs)
        leaving = {listener for _, listener in found}
        # Outside the lock, as in add().
        for hub in hubs:
            hub.listeners_leave(leaving, moments)
        with self.lock:
            for moment, listener in found:
                if listener in self._listeners[moment]:
                    self._drop(moment, listener)
        for hub in hubs:
            for listener in leaving:
                hub.listener_ready(listener)
        return bool(found)

    def contains(self, target: Any, identifier: Union[str, Iterable[str]], fn: Any) -> bool:
        """Tell whether ``fn`` listens to ``target`` at all of these moments."""
        senders = _senders(target)
        with self.lock:
            return all(
                any(item.fn == fn and item.senders == senders for item in self._listeners[moment])
                for moment in moments_of(identifier)
            )

    def add(self, listener: Listener, moments: Tuple[str, ...]) -> None:
        """Register a listener at these moments, but for those where it is already."""
        with self.lock:
            fresh = tuple(moment for moment in moments if not self._has(moment, listener))
            if not fresh:
                return
            listener.order = next(self._order)
            hubs = list(self._hubs)
        # Outside the lock: hubs talk to their databases here.
        for hub in hubs:
            hub.listener_added(listener, fresh)
        with self.lock:
            for moment in fresh:
                self._listeners[moment].append(listener)
                self._alike.setdefault((moment, listener.alike), []).append(listener)
                # Strongly: a weak reference drops local functions and methods.
                for sender in listener.senders:
                    signal = self._signals[moment]
                    signal.connect(
                        cast(Any, listener), sender=_known_to_blinker(sender), weak=False
                    )
            self.version += 1
        asked: List[Any] = []
        try:
            for hub in hubs:
                asked.append(hub)
                hub.listener_ready(listener)
        except BaseException:
            self._take_back(listener, fresh, asked)
            raise

    # For hubs.

    def attach(self, hub: Any) -> None:
        """Report each new listener to ``hub`` from now on, and each that leaves.

        ``listener_added(listener, moments)`` before it can get events; what
        it raises keeps the listener out. ``listeners_leave(listeners,
        moments)`` while they still get them. ``listener_ready(listener)`` after both:
        what it raises takes a new listener back.
        """
        with self.lock:
            self._hubs.add(hub)

    def detach(self, hub: Any) -> None:
        """Undo ``attach``."""
        with self.lock:
            self._hubs.discard(hub)

    def all(self) -> List[Tuple[Listener, Tuple[str, ...]]]:
        """Return each listener, in the order of registration, with its moments."""
        with self.lock:
            moments: Dict[Listener, List[str]] = {}
            for moment in ALL_MOMENTS:
                for listener in self._listeners[moment]:
                    moments.setdefault(listener, []).append(moment)
        return sorted(
            ((listener, tuple(names)) for listener, names in moments.items()),
            key=lambda item: item[0].order,
        )

    def listeners(self, keys: Iterable[str], moment: str) -> List[Listener]:
        """Return who listens to any of these keys, or to ANY, in the order of registration."""
        signal = self._signals.get(moment)
        if signal is None:  # of a newer release: nobody listens
            return []
        with self.lock:
            # A sender nobody named yields those who listen to ANY.
            found = {cast(Any, one) for key in [*keys, ""] for one in signal.receivers_for(key)}
        return sorted(found, key=lambda listener: listener.order)

    def has_plain(self) -> bool:
        """Tell whether anybody listens outside of groups."""
        version = self.version  # before the look: a listener may come meanwhile
        if self._plain[0] != version:
            answer = any(
                listener.group is None and listener.native is None for listener, _ in self.all()
            )
            self._plain = version, answer
        return self._plain[1]

    def native(self) -> FrozenSet[str]:
        """Return PostgreSQL's channels that anybody listens to."""
        version = self.version  # before the look: a listener may come meanwhile
        if self._native[0] != version:
            listeners = (listener.native for listener, _ in self.all())
            self._native = version, frozenset(name for name in listeners if name is not None)
        return self._native[1]

    def spend(self, listener: Listener) -> bool:
        """Remove a listener with ``once``; tell whether this call was the one that did."""
        with self.lock:
            mine = [m for m in ALL_MOMENTS if listener in self._listeners[m]]
            for moment in mine:
                self._drop(moment, listener)
        return bool(mine)

    def _take_back(self, listener: Listener, moments: Tuple[str, ...], hubs: List[Any]) -> None:
        """Undo the registration of a listener that the last of these hubs did not take."""
        for hub in hubs:
            hub.listeners_leave({listener}, moments)
        with self.lock:
            for moment in moments:
                if listener in self._listeners[moment]:
                    self._drop(moment, listener)
        for hub in hubs:
            with contextlib.suppress(PgEventsError):  # the first error is the one to raise
                hub.listener_ready(listener)

    def _has(self, moment: str, listener: Listener) -> bool:
        """Tell whether one that says the same is registered."""
        return any(map(listener.same_as, self._alike.get((moment, listener.alike), ())))

    def _drop(self, moment: str, listener: Listener) -> None:
        self._listeners[moment].remove(listener)
        alike = self._alike[moment, listener.alike]
        alike.remove(listener)
        if not alike:
            del self._alike[moment, listener.alike]
        for sender in listener.senders:
            self._signals[moment].disconnect(cast(Any, listener), _known_to_blinker(sender))
        self.version += 1


def _senders(target: Any) -> Tuple[Any, ...]:
    return (ANY if target is ANY else as_target(target).key,)


def _known_to_blinker(sender: Any) -> Any:
    return blinker.ANY if sender is ANY else sender


#: The registry of everybody who does not make one.
default = Registry()
listens_for = default.listens_for
listen = default.listen
remove = default.remove
contains = default.contains
