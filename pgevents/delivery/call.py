"""One call of a listener: by plain delivery, poll(), groups and the FakeHub of tests alike."""

import threading
from typing import Any, List, NamedTuple, Optional, Union

from ..events.entry import Entry
from ..listening.listener import Listener
from .around import Around


class Outcome(NamedTuple):
    """How a call went: ``error`` is what the listener raised, None if it returned."""

    error: Optional[BaseException] = None

    @property
    def returned(self) -> bool:
        return self.error is None


RETURNED = Outcome()


def call(
    listener: Listener, argument: Union[Entry, List[Any]], around: Around, connection: Any = None
) -> Outcome:
    """Call a listener once with an event, or with the list of a batch; return how that went.

    A transactional one gets the ``connection``, too. What the context managers ``around`` the
    call raise counts as raised by the listener. Nothing ends the calling thread, neither
    sys.exit() nor a time limit; only a Ctrl-C in the main thread, as poll() may meet it, is
    raised.
    """
    # Not Signal.send(): it stops at the first listener that raises, and one listener's bug
    # must not keep the event from the others.
    try:
        given: Any = listener.prepared(argument) if listener.prepares else argument
        if not around.factories:
            if listener.transactional:
                listener.fn(given, connection)
            else:
                listener.fn(given)
        else:
            events = given if isinstance(given, list) else [given]
            more = (connection,) if listener.transactional else ()
            around.call(listener.fn, events, given, *more)
    except BaseException as error:
        let_through(error)
        return Outcome(error)
    return RETURNED


def let_through(error: BaseException) -> None:
    """Raise a Ctrl-C again in the main thread: it is meant for the program, not the listener."""
    main = threading.current_thread() is threading.main_thread()
    if main and isinstance(error, KeyboardInterrupt):
        raise error
