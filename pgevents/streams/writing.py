"""An append: checked before the database is asked, written, told to the listeners."""

import contextlib
from typing import Any, Callable, ContextManager, List, Mapping, Optional, Tuple

from sqlalchemy.engine import Connection

from ..database.backend import Backend
from ..database.grouplog import GroupLog
from ..database.store import EventStore, StreamKey, WrittenEvent, stored_row
from ..database.writers import connection_of, require_commit
from ..errors import ConcurrencyError
from ..payloads.enrichers import Enrichers
from ..payloads.text import to_text
from .committed import Committed
from .listeners import Listeners
from .names import label
from .stored import Stored
from .types import Types


class Appender:
    """Appends to the streams of one database; ``log()`` has the pool of connections of ours."""

    def __init__(
        self,
        backend: Backend,
        store: EventStore,
        types: Types,
        enrichers: Enrichers,
        listeners: Listeners,
        log: Callable[[], GroupLog],
    ) -> None:
        self._backend = backend
        self._store = store
        self._types = types
        self._enrichers = enrichers
        self._listeners = listeners
        self._log = log
        self._committed = Committed()

    def append(
        self,
        key: StreamKey,
        events: Tuple[Any, ...],
        expected: Optional[int],
        bind: Any,
        metadata: Optional[Mapping[str, Any]],
    ) -> List[Stored]:
        """Append events to a stream; return them as they are stored."""
        given = self._enrichers.enriched(metadata)
        beside = to_text(given, what="metadata") if given else None
        written = [self._types.written(event, key, beside) for event in events]
        if not written:
            return []
        if bind is None:
            return self._append_alone(key, expected, written)
        connection = self.connection(bind)
        require_commit(connection)
        return self._append_in(connection, key, expected, written)

    def connection(self, bind: Any) -> Connection:
        """Return the Connection behind what an application writes with. Raises UsageError."""
        return connection_of(bind, self._backend, [])

    def _append_alone(
        self, key: StreamKey, expected: Optional[int], written: List[WrittenEvent]
    ) -> List[Stored]:
        log = self._log()
        if not self._listeners.any:
            return log.write(lambda own: self._put(own, key, expected, written))
        # Not write(), which may begin again: listeners do what they like.
        with log.transaction() as connection:
            return self._append_in(connection, key, expected, written, log.lent(connection))

    def _append_in(
        self,
        connection: Connection,
        key: StreamKey,
        expected: Optional[int],
        written: List[WrittenEvent],
        lent: ContextManager[None] = contextlib.nullcontext(),
    ) -> List[Stored]:
        stored = self._put(connection, key, expected, written)
        calls = self._listeners.calls_after(stored)
        if calls:
            self._committed.after_commit(connection, calls)
        if self._listeners.within:
            with lent:  # as the application has its own connections
                self._listeners.call_within(stored, connection)
        return stored

    def _put(
        self,
        connection: Connection,
        key: StreamKey,
        expected: Optional[int],
        written: List[WrittenEvent],
    ) -> List[Stored]:
        appended = self._store.append(connection, key, expected, written)
        if appended is None:
            assert expected is not None
            raise ConcurrencyError(label(key), expected, self._store.version(connection, key))
        return [
            Stored(stored_row(key, event, given), self._types)
            for event, given in zip(written, appended)
        ]
