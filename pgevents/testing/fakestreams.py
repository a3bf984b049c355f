"""Streams without a database, and given/when/then for what an application decides."""

import copy
import datetime
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from ..database.store import Appended, StreamKey, WrittenEvent, stored_row
from ..errors import ConcurrencyError
from ..payloads.text import to_text
from ..streams.history import History
from ..streams.names import LAST_VERSION, label, stream_key, tenant_name
from ..streams.names import version as checked_version
from ..streams.stored import Stored
from ..streams.streams import Streams
from ..streams.types import Types


class FakeStreams:
    """Appends and loads as ``hub.streams`` does, in memory, with the same checks.

    ``like``: the ``hub.streams`` whose types it knows; nothing is asked of its database.
    Listeners are not called, and there is no ``bind``.
    """

    def __init__(self, like: Optional[Streams] = None) -> None:
        self._types = Types() if like is None else like._parts.types
        self._tenant: Optional[str] = None if like is None else like.tenant
        self._streams: Dict[StreamKey, List[Stored]] = {}
        self._versions: Dict[StreamKey, int] = {}
        self._position = [0]

    def for_tenant(self, tenant: Optional[str]) -> "FakeStreams":
        """Return the streams of one tenant, which are kept with these."""
        view = copy.copy(self)
        view._tenant = tenant_name(tenant)
        return view

    def append(
        self,
        stream: Any,
        *events: Any,
        category: Optional[str] = None,
        expected_version: Optional[int] = None,
        metadata: Optional[Mapping[str, Any]] = None,
    ) -> List[Stored]:
        """Append events; return them as they would be stored. Raises as ``Streams`` does."""
        key = stream_key(stream, category, self._tenant)
        beside = to_text(dict(metadata), what="metadata") if metadata else None
        written = [self._types.written(event, key, beside) for event in events]
        there = self._versions.get(key, 0)
        if expected_version is not None:
            if checked_version("expected_version", expected_version) != there and written:
                raise ConcurrencyError(label(key), expected_version, there)
        stored = [self._stored(key, there + n, event) for n, event in enumerate(written, 1)]
        self._streams.setdefault(key, []).extend(stored)
        self._versions[key] = there + len(stored)
        return stored

    def load(
        self,
        stream: Any,
        category: Optional[str] = None,
        after: int = 0,
        upto: Optional[int] = None,
    ) -> History:
        """Return the events of a stream, as ``Streams.load()`` does."""
        key = stream_key(stream, category, self._tenant)
        last = min(LAST_VERSION if upto is None else upto, self._versions.get(key, 0))
        events = list(self._streams.get(key, ()))
        return History(
            lambda after, upto: [e for e in events if after < e.version <= upto], after, last
        )

    def delete(self, stream: Any, category: Optional[str] = None) -> int:
        """Delete a stream's events; return how many. Versions go on."""
        return len(self._streams.pop(stream_key(stream, category, self._tenant), ()))

    def _stored(self, key: StreamKey, version: int, event: WrittenEvent) -> Stored:
        self._position[0] += 1
        at = datetime.datetime.now(datetime.timezone.utc)
        appended = Appended(self._position[0], None, at, version, None)
        return Stored(stored_row(key, event, appended), self._types)


class Scenario:
    """Given what has happened, when something is done, then these events come of it.

    ``decide(events, *arguments)`` gets the data of the events so far and returns those that are
    to be appended, as a list::

        Scenario(pay).given(Placed(total=10)).when(amount=10).then(Paid(amount=10))
        Scenario(pay).given(Placed(total=10)).when(amount=11).raises(ValueError)
    """

    def __init__(self, decide: Callable[..., Iterable[Any]]) -> None:
        self._decide = decide
        self._given: List[Any] = []
        self._found: List[Any] = []
        self._error: Optional[Exception] = None

    def given(self, *events: Any) -> "Scenario":
        """These events have happened, in this order."""
        self._given += events
        return self

    def when(self, *arguments: Any, **named: Any) -> "Scenario":
        """Call the function; what it raises is for ``raises()``."""
        self._error, self._found = None, []
        try:
            self._found = list(self._decide(list(self._given), *arguments, **named) or ())
        except Exception as error:
            self._error = error
        return self

    def then(self, *events: Any) -> "Scenario":
        """Raise AssertionError unless exactly these came of it; they are given from now on."""
        if self._error is not None:
            raise self._error
        assert self._found == list(events), f"{self._found!r}, and not {list(events)!r}"
        self._given += self._found
        return self

    def raises(self, kind: type) -> "Scenario":
        """Raise AssertionError unless it raised an error of this class."""
        assert isinstance(self._error, kind), f"raised {self._error!r}, came to {self._found!r}"
        return self
