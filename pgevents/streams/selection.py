"""Which events of streams somebody asks for: by tenant, category and type; each may be any.

In a group's definition, and as the topic of an event:

    stream:["acme","orders","order.paid"]    an event; or who wants just these
    stream:[null,"orders",null]              who wants a category's, of all tenants and types
"""

import functools
import itertools
import json
from typing import Iterable, List, NamedTuple, Optional, Tuple

from ..events.logrow import STREAM


class Selection(NamedTuple):
    """What an event has to have; None: whatever it has."""

    tenant: Optional[str] = None
    category: Optional[str] = None
    type: Optional[str] = None

    @property
    def topic(self) -> str:
        """The selection as a group's definition has it."""
        return STREAM + json.dumps(list(self), ensure_ascii=False, separators=(",", ":"))


def is_selection(topic: str) -> bool:
    """Tell whether a topic is one of streams."""
    return topic.startswith(STREAM)


@functools.lru_cache(maxsize=4096)
def selection_of(topic: str) -> Selection:
    """Return what a topic selects; of an event's, what it has."""
    return Selection(*json.loads(topic[len(STREAM) :]))


def selections(topics: Iterable[str]) -> List[Selection]:
    """Return what topics select; those of a group's backfill select nothing."""
    return [selection_of(topic) for topic in topics if is_selection(topic)]


@functools.lru_cache(maxsize=4096)
def keys_of(topic: str) -> Tuple[str, ...]:
    """Return the topics of all selections that an event's topic meets."""
    found = selection_of(topic)
    return tuple(
        Selection(*parts).topic for parts in itertools.product(*((one, None) for one in found))
    )
