"""A function and the events of streams that it is called with, in a group."""

from typing import Any, Callable, List, Optional, Tuple

from ..errors import UsageError
from ..events.logrow import STORED
from ..listening.listener import Listener
from .selection import Selection

MOMENT = STORED


class StreamSubscription(Listener):
    """A function that a group calls with the events of some streams."""

    def __init__(
        self,
        fn: Callable[..., Any],
        selected: List[Selection],
        group: Optional[str],
        batch: bool = False,
        transactional: bool = False,
    ) -> None:
        if group is None:
            raise UsageError(
                "a subscription to streams has a group: give group=, the name under which its"
                " position is kept"
            )
        self.topics = tuple(dict.fromkeys(selection.topic for selection in selected))
        super().__init__(fn, batch, False, group, transactional)

    @property
    def senders(self) -> Tuple[str, ...]:
        return self.topics

    def _arguments(self) -> str:
        if self.transactional:
            return "two arguments, the event and a connection"
        return "one argument, " + ("a list of events" if self.batch else "the event")
