"""What a hub reports about itself, as blinker signals. The sender is the hub.

    @signals.disconnected.connect
    def page_somebody(hub, error, retry_in): ...

A receiver that raises is logged and disturbs nobody. Receivers are called in
the thread that reports, so they should be quick.
"""

import inspect
import logging
import threading
from typing import Any, Dict

from blinker import Namespace

logger = logging.getLogger("pgevents")

_namespace = Namespace()

#: ``start()`` has returned or is about to. No arguments.
started = _namespace.signal("pgevents-started")
#: The hub's threads have ended. No arguments.
stopped = _namespace.signal("pgevents-stopped")
#: The hub listens, for the first time or again. No arguments.
connected = _namespace.signal("pgevents-connected")
#: The connection is lost. ``error``; ``retry_in`` in seconds.
disconnected = _namespace.signal("pgevents-disconnected")
#: Events were missed: deleted before this hub read them, or never captured. ``reason``.
gap = _namespace.signal("pgevents-gap")
#: A listener raised at the last attempt. ``listener``; ``events``, a list; ``error``.
listener_failed = _namespace.signal("pgevents-listener-failed")
#: A group has given an event up, and its dead letter is stored. ``group``, its name; ``event``;
#: ``error``; ``letter``, its id, for receivers that take it.
dead_lettered = _namespace.signal("pgevents-dead-lettered")
#: The listeners do not keep up: the queue has been full for ``seconds``.
fallen_behind = _namespace.signal("pgevents-fallen-behind")

NAMES = (
    "started",
    "stopped",
    "connected",
    "disconnected",
    "gap",
    "listener_failed",
    "dead_lettered",
    "fallen_behind",
)


#: Arguments that a receiver need not take: it may have been written before there were these.
_LATER = {"letter"}


def send(name: str, sender: Any, **details: Any) -> None:
    """Send a signal to each of its receivers, also when others raise."""
    # Not Signal.send(): it stops at the first receiver that raises.
    for receiver in list(globals()[name].receivers_for(sender)):
        try:
            receiver(sender, **_taken(receiver, details))
        except BaseException as error:  # sys.exit(), too: must not end a thread of the hub
            if not isinstance(error, Exception) and _in_main_thread():
                raise
            logger.exception("a receiver of the signal %s failed, the others go on", name)


def _in_main_thread() -> bool:
    return threading.current_thread() is threading.main_thread()


def _taken(receiver: Any, details: Dict[str, Any]) -> Dict[str, Any]:
    """Return the details without those of _LATER that the receiver does not take."""
    if _LATER.isdisjoint(details):
        return details
    try:
        parameters = inspect.signature(receiver).parameters
    except (TypeError, ValueError):  # written in C: the call will show it
        return details
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return details
    return {key: details[key] for key in details if key in parameters or key not in _LATER}
