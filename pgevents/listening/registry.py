"""Who listens to what.

    signals                    senders              receivers (Listener)
    after_insert ─┬─ "orders" ────────── send_receipt, reindex
                  └─ ANY ─────────────── audit
    after_update ─── "sales.orders" ──── ship

One blinker signal for each moment; the sender is a table as its listener named
it (``Target.key``). A registry knows nothing of databases: a hub translates a
topic of its log ("public.orders") into the keys that mean it.

The module's ``listens_for``, ``listen``, ``remove`` and ``contains`` are the
methods of a registry that is there from the start.
"""

import contextlib
import functools
import inspect
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
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    Union,
    cast,
)

import blinker

from .. import checks
from ..errors import PgEventsError, UsageError
from ..events.event import Event, gone
from ..events.values import Row
from .columns import column_names, values_by_column
from .target import ANY, MOMENTS, Target, as_target, moments_of

Function = TypeVar("Function", bound=Callable[..., Any])
Where = Union[None, Mapping[Any, Any], Callable[[Event], Any]]


class Listener:
    """A function and the events that it wants.

    ``columns`` and the keys of a ``where`` dict are column names here; a hub
    that knows the table checks them.
    """

    def __init__(
        self,
        fn: Callable[..., Any],
        target: Any,
        columns: Optional[Iterable[Any]] = None,
        where: Where = None,
        batch: bool = False,
        once: bool = False,
        group: Optional[str] = None,
        transactional: bool = False,
    ) -> None:
        if not callable(fn):
            raise UsageError(f"cannot call {fn!r}: a listener is a function")
        if _is_not_run_by_a_call(fn):
            raise UsageError(
                f"{fn!r} is asynchronous, or a generator: a call would not run it. Give a plain"
                " function"
            )
        if where is not None and not isinstance(where, Mapping) and not callable(where):
            raise UsageError(f"where={where!r}: give a dict of column → value, or a function")
        self.fn = fn
        self.target: Optional[Target] = None if target is ANY else as_target(target)
        names = None if columns is None else column_names(self.target, columns)
        if names == []:
            raise UsageError("columns=[] names no column: leave it out to receive every update")
        self.columns = None if names is None else frozenset(names)
        self.where = where
        if isinstance(where, Mapping):
            self.where = dict(values_by_column(self.target, where))
        if group is not None:
            checks.name("group", group)
        if transactional and (group is None or batch):
            raise UsageError("transactional=True goes with group=, and not with batch=True")
        if once and group is not None:
            raise UsageError("once=True goes with plain listeners: a group is there for good")
        self.batch = batch
        self.once = once
        self.group = group
        self.transactional = transactional
        self._mentioned = self.column_names()
        self._check_signature()
        self.alike = self._alike()
        self.order = 0  # its place among all listeners of the registry
        self.failing = False  # it raised at the last attempt for the event before

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return getattr(self.fn, "__qualname__", None) or repr(self.fn)

    @property
    def sender(self) -> Any:
        """What blinker knows its table by."""
        return blinker.ANY if self.target is None else self.target.key

    def column_names(self) -> FrozenSet[str]:
        """Return all the columns it needs: those it names, and its class's discriminator."""
        return self.columns_of_row() | (self.columns or frozenset())

    def columns_of_row(self) -> FrozenSet[str]:
        """Return the columns that decide about a single row, so about one deleted, too."""
        names = set(self.where) if isinstance(self.where, dict) else set()
        if self.target is not None and self.target.discriminator is not None:
            names.add(self.target.discriminator[0])
        return frozenset(names)

    def wants(self, event: Event) -> bool:
        """Tell whether the event passes ``columns``, ``where`` and the mapped class.

        Raises UsageError for a column that the table has no more.
        """
        self._check_columns(event)
        if self.columns is not None and event.operation == "update":
            if self.columns.isdisjoint(event.changed):
                return False
        target = self.target
        if target is not None and target.discriminator is not None:
            column, identities = target.discriminator
            row = event.new if event.new is not None else event.old
            if row is not None and self._value(row, column) not in identities:
                return False
        where = self.where
        if where is None:
            return True
        if callable(where):
            return bool(where(event))
        row = event.new if event.new is not None else event.old
        return row is not None and all(
            name in row and _same(row[name], value) for name, value in where.items()
        )

    def calls(self) -> Tuple["Listener", ...]:
        """Return the listeners to call: itself."""
        return (self,)

    def same_as(self, other: "Listener") -> bool:
        """Tell whether registering both would say the same thing twice."""
        return (self.where, *self._said()) == (other.where, *other._said())

    def _said(self) -> Tuple[Any, ...]:
        return self.fn, self.columns, self.batch, self.once, self.group, self.transactional

    def _alike(self) -> Any:
        """Return a key that equal listeners share, and few others."""
        try:
            where: Any = self.where
            if isinstance(where, dict):
                where = frozenset(where.items())
            return self.sender, hash((where, self._said()))
        except TypeError:  # a function, or a value, without a hash
            return self.sender, None

    def __repr__(self) -> str:
        return f"<Listener {self.name} {self.sender}>"

    def _value(self, row: Row, column: str) -> Any:
        """Return a row's value of the column that makes it one of the class's.

        Raises UsageError for a row without that column.
        """
        if column not in row:
            raise UsageError(
                f"{self.name} listens to a class whose rows are known by the column {column!r},"
                " which this row in the log does not have"
            )
        return row[column]

    def _check_columns(self, event: Event) -> None:
        # A where that names a column of some tables is right for ANY.
        if self._mentioned and self.target is not None:
            missing = gone(event, self._mentioned)
            if missing is not None:
                raise UsageError(f"{self.name} asks for {missing}")

    def _check_signature(self) -> None:
        """Raise UsageError if the function cannot take what it will be called with."""
        given, words = 1, "one argument, the event"
        if self.transactional:
            given, words = 2, "two arguments, the event and a connection"
        elif self.batch:
            words = "one argument, a list of events"
        try:
            # A decorator's wrapper may take other arguments than what it wraps.
            signature = inspect.signature(self.fn, follow_wrapped=False)
        except Exception:
            # Written in C, perhaps; and Python 3.14 evaluates annotations here, which may
            # name what is imported for type checkers only. A call will tell.
            return
        try:
            signature.bind(*[None] * given)
        except TypeError:
            raise UsageError(f"{self.name}{signature} has to take {words}") from None


class Registry:
    """A set of listeners. Safe to use from several threads, and from inside a listener."""

    def __init__(self) -> None:
        self._signals = {moment: blinker.Signal() for moment in MOMENTS}
        self._listeners: Dict[str, List[Listener]] = {moment: [] for moment in MOMENTS}
        #: Moment and ``Listener.alike`` → listeners: with thousands, not each is compared.
        self._alike: Dict[Tuple[str, Any], List[Listener]] = {}
        self._order = count(1)
        self.lock = threading.RLock()  # held by a hub while the process forks
        self._hubs: "weakref.WeakSet[Any]" = weakref.WeakSet()
        #: Rises with each change, so that who keeps a look-up knows it is old.
        self.version = 0
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
        listener = Listener(fn, target, columns, where, batch, once, group, transactional)
        self.add(listener, moments_of(identifier))

    def remove(self, target: Any, identifier: Union[str, Iterable[str]], fn: Any) -> None:
        """Take back ``listen``, whatever its options were. Raises UsageError if there is none."""
        moments = moments_of(identifier)
        sender = _sender(target)
        with self.lock:
            found = [
                (moment, listener)
                for moment in moments
                for listener in self._listeners[moment]
                if listener.fn == fn and listener.sender == sender
            ]
            hubs = list(self._hubs)
        if not found:
            raise UsageError(f"{fn!r} does not listen to {target!r} {identifier!r}")
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

    def contains(self, target: Any, identifier: Union[str, Iterable[str]], fn: Any) -> bool:
        """Tell whether ``fn`` listens to ``target`` at all of these moments."""
        sender = _sender(target)
        with self.lock:
            return all(
                any(item.fn == fn and item.sender == sender for item in self._listeners[moment])
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
                signal = self._signals[moment]
                signal.connect(cast(Any, listener), sender=listener.sender, weak=False)
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
            for moment in MOMENTS:
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
        version, answer = self._plain
        if version != self.version:
            answer = any(listener.group is None for listener, _ in self.all())
            self._plain = (self.version, answer)
        return answer

    def spend(self, listener: Listener) -> bool:
        """Remove a listener with ``once``; tell whether this call was the one that did."""
        with self.lock:
            mine = [m for m in MOMENTS if listener in self._listeners[m]]
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
        self._signals[moment].disconnect(cast(Any, listener), sender=listener.sender)
        self.version += 1


def _sender(target: Any) -> Any:
    return blinker.ANY if target is ANY else as_target(target).key


def _is_not_run_by_a_call(fn: Any) -> bool:
    while isinstance(fn, functools.partial):
        fn = fn.func
    called = getattr(type(fn), "__call__", None)  # of an object that can be called
    return any(
        test(one)
        for one in (fn, called)
        for test in (
            inspect.iscoroutinefunction,
            inspect.isgeneratorfunction,
            inspect.isasyncgenfunction,
        )
    )


def _same(found: Any, wanted: Any) -> bool:
    if found is None or wanted is None:
        return found is wanted
    return bool(found == wanted)


#: The registry of everybody who does not make one.
default = Registry()
listens_for = default.listens_for
listen = default.listen
remove = default.remove
contains = default.contains
