"""Context managers that an application puts around each call of a listener."""

import contextlib
import inspect
from typing import Any, Callable, ContextManager, List

from ..errors import UsageError

#: Makes the context manager of one call, from the listener's function and its events.
Factory = Callable[[Callable[..., Any], List[Any]], ContextManager[Any]]


class Around:
    """What is put around each call, in the order in which it was added: the first is outermost.

        add(app_context), add(clear_cache)

        with app_context(send_receipt, [event]):
            with clear_cache(send_receipt, [event]):
                send_receipt(event)

    Any thread may add one; calls that have begun go on without it.
    """

    def __init__(self) -> None:
        self.factories: List[Factory] = []  # which only grows: no lock is needed

    def add(self, factory: Factory) -> None:
        """Put what ``factory(listener, events)`` returns around each call from now on.

        The same one is added once. Raises UsageError for what cannot be called like that.
        """
        _check(factory)
        if factory not in self.factories:
            self.factories.append(factory)

    def call(self, fn: Callable[..., Any], events: List[Any], *arguments: Any) -> None:
        """Call ``fn(*arguments)`` within all of them. Raises what it, or one of them, raises."""
        called = False
        with contextlib.ExitStack() as stack:
            for factory in tuple(self.factories):
                stack.enter_context(_made(factory, fn, events))
            called = True
            fn(*arguments)
        if not called:  # else the event would count as handled
            raise UsageError(
                f"{_name(fn)} was not called: a context manager around it suppressed what another"
                " raised when it was entered"
            )


def _made(factory: Factory, fn: Callable[..., Any], events: List[Any]) -> ContextManager[Any]:
    made = factory(fn, events)
    if not hasattr(type(made), "__enter__") or not hasattr(type(made), "__exit__"):
        raise UsageError(f"{_name(factory)} returned {made!r}: return a context manager")
    return made


def _check(factory: Any) -> None:
    """Raise UsageError for what cannot make the context manager of a call."""
    if not callable(factory):
        raise UsageError(
            f"cannot call {factory!r}: give a function of the listener and its events that returns"
            " a context manager"
        )
    for test, kind in (
        (inspect.isgeneratorfunction, "a generator: decorate it with contextlib.contextmanager"),
        (inspect.iscoroutinefunction, "asynchronous: give a plain function"),
        (inspect.isasyncgenfunction, "asynchronous: give a plain function"),
    ):
        if test(factory):
            raise UsageError(f"{_name(factory)} is {kind}")
    # contextlib.contextmanager takes any arguments, and hands them to the generator.
    generator = inspect.isgeneratorfunction(getattr(factory, "__wrapped__", None))
    try:
        signature = inspect.signature(factory, follow_wrapped=generator)
    except Exception:  # written in C, perhaps: a call will show
        return
    try:
        signature.bind(None, [])
    except TypeError:
        raise UsageError(
            f"{_name(factory)}{signature} has to take two arguments, the listener and the list of"
            " its events"
        ) from None


def _name(factory: Any) -> str:
    return getattr(factory, "__qualname__", None) or repr(factory)
