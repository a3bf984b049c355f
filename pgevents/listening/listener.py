"""A function that is to be called, and how; what it receives is for the subclasses to say."""

import functools
import inspect
from typing import Any, Callable, FrozenSet, List, Optional, Tuple, Union

from .. import checks
from ..errors import UsageError
from ..events.entry import Entry
from .target import Target


class Listener:
    """A function that receives entries of the log: changes of tables, or messages."""

    #: The table, if it is one.
    target: Optional[Target] = None
    #: The topics, where they are known without a look into the database.
    topics: Tuple[str, ...] = ()
    #: Whether others are to be called in its place: see ``calls()``.
    stands_in = False
    #: The channel of PostgreSQL's own whose notifications it receives, and nothing of the log.
    native: Optional[str] = None
    #: Whether ``wants()`` has something to decide.
    picks = False
    #: Whether ``prepared()`` has something to do.
    prepares = False

    def __init__(
        self,
        fn: Callable[..., Any],
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
        if group is not None:
            checks.name("group", group)
        if transactional and (group is None or batch):
            raise UsageError("transactional=True goes with group=, and not with batch=True")
        if once and group is not None:
            raise UsageError("once=True goes with plain listeners: a group is there for good")
        self.fn = fn
        self.batch = batch
        self.once = once
        self.group = group
        self.transactional = transactional
        self._check_signature()
        self.alike = self._alike()
        self.order = 0  # its place among all listeners of the registry
        self.failing = False  # it raised at the last attempt for the event before

    @property
    def name(self) -> str:
        """The function's name, for messages."""
        return getattr(self.fn, "__qualname__", None) or repr(self.fn)

    @property
    def senders(self) -> Tuple[Any, ...]:
        """What blinker knows its tables or channels by."""
        raise NotImplementedError

    def column_names(self) -> FrozenSet[str]:
        """Return all the columns it needs."""
        return frozenset()

    def columns_of_row(self) -> FrozenSet[str]:
        """Return the columns that decide about a single row, so about one deleted, too."""
        return frozenset()

    def wants(self, event: Any) -> bool:
        """Tell whether it is to be called for an entry. Raises what decides about it raises."""
        return True

    def prepared(self, argument: Union[Entry, List[Any]]) -> Any:
        """Return what to call it with, for an entry or the list of a batch."""
        return argument

    def calls(self) -> Tuple["Listener", ...]:
        """Return the listeners to call: itself."""
        return (self,)

    def same_as(self, other: "Listener") -> bool:
        """Tell whether registering both would say the same thing twice."""
        return type(other) is type(self) and self._said() == other._said()

    def _said(self) -> Tuple[Any, ...]:
        return self.fn, self.batch, self.once, self.group, self.transactional

    def _alike(self) -> Any:
        """Return a key that equal listeners share, and few others."""
        try:
            return self.senders, hash(self._said())
        except TypeError:  # a function, or a value, without a hash
            return self.senders, None

    def __repr__(self) -> str:
        senders = ", ".join(map(str, self.senders))
        return f"<{type(self).__name__} {self.name} {senders}>"

    def _arguments(self) -> str:
        """Return in words what the function is called with."""
        raise NotImplementedError

    def _check_signature(self) -> None:
        """Raise UsageError if the function cannot take what it will be called with."""
        try:
            # A decorator's wrapper may take other arguments than what it wraps.
            signature = inspect.signature(self.fn, follow_wrapped=False)
        except Exception:
            # Written in C, perhaps; and Python 3.14 evaluates annotations here, which may
            # name what is imported for type checkers only. A call will tell.
            return
        try:
            signature.bind(*[None] * (2 if self.transactional else 1))
        except TypeError:
            raise UsageError(f"{self.name}{signature} has to take {self._arguments()}") from None


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
