"""Publishes messages: in the caller's transaction, or in one of its own."""

from typing import Any, Callable, Iterable, List, Optional

from sqlalchemy.engine import Connection

from ..database.backend import Backend
from ..database.grouplog import GroupLog
from ..database.outbox import Written
from ..database.writers import connection_of, require_commit
from .outgoing import Outgoing, Writer, as_messages


class Publisher:
    """Publishes in one database; ``log()`` is the log as groups use it, on a pool of our own."""

    def __init__(self, backend: Backend, writer: Writer, log: Callable[[], GroupLog]) -> None:
        self._backend = backend
        self._outbox = backend.outbox()
        self._writer = writer
        self._log = log

    def publish(self, message: Outgoing, bind: Any = None) -> str:
        """Publish a message; return its id."""
        return self._put([self._writer.written(message)], bind)[0]

    def publish_many(self, messages: Iterable[Any], bind: Any = None) -> List[str]:
        """Publish messages, all or none; return their ids, in order."""
        written = [self._writer.written(message) for message in as_messages(messages)]
        return self._put(written, bind) if written else []

    def notify(self, channel: str, payload: str, bind: Any) -> None:
        """Send a notification of PostgreSQL's own."""
        if bind is None:
            self._outbox.notify_alone(self._log(), channel, payload)
        else:
            self._outbox.notify(self.connection_of(bind), channel, payload)

    def connection_of(self, bind: Any) -> Connection:
        """Return the Connection to our database behind what the caller writes with."""
        connection = connection_of(bind, self._backend, [])
        require_commit(connection)
        return connection

    def move(self) -> Optional[float]:
        """Publish delayed messages that are due; return in how many seconds the next one is."""
        return self._outbox.move(self._log())

    def forget_ids(self, age: float) -> None:
        """Let ids that were published ``age`` seconds ago be published again."""
        self._outbox.forget_ids(self._log(), age)

    def _put(self, messages: List[Written], bind: Any) -> List[str]:
        def put(connection: Connection) -> None:
            self._outbox.put(connection, messages)

        if bind is None:
            self._outbox.send(self._log(), messages)
        else:
            put(self.connection_of(bind))
        return [message.id for message in messages]
