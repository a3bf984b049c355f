"""A function and the channels that it listens to."""

from typing import Any, Callable, List, Optional, Tuple, Union

from ..errors import UsageError
from ..events.entry import Entry
from ..listening.listener import Listener
from ..payloads.models import check_model
from .message import Message
from .names import channel_pattern, topic_of

MOMENT = "message"


class Subscription(Listener):
    """A function that receives the messages of some channels; ``type`` is its payloads' class."""

    def __init__(
        self,
        fn: Callable[..., Any],
        channels: Tuple[Any, ...],
        group: Optional[str] = None,
        type: Optional[type] = None,
        batch: bool = False,
        transactional: bool = False,
    ) -> None:
        if not channels:
            raise UsageError('no channel given: name one, or a pattern such as "orders.*"')
        if type is not None:
            check_model(type)
        self.type = type
        self.topics = tuple(dict.fromkeys(topic_of(channel_pattern(one)) for one in channels))
        self.prepares = type is not None
        super().__init__(fn, batch, False, group, transactional)

    @property
    def senders(self) -> Tuple[str, ...]:
        return self.topics

    def prepared(self, argument: Union[Entry, List[Any]]) -> Any:
        if isinstance(argument, list):
            return [self._typed(message) for message in argument]
        return self._typed(argument)

    def _typed(self, message: Any) -> Message:
        assert self.type is not None
        typed: Message = message.typed(self.type)
        typed.payload  # what does not fit is a failure of this call
        return typed

    def _said(self) -> Tuple[Any, ...]:
        return (*super()._said(), self.type)

    def _arguments(self) -> str:
        if self.transactional:
            return "two arguments, the message and a connection"
        return "one argument, " + ("a list of messages" if self.batch else "the message")
