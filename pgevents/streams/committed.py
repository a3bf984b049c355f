"""What is to be told when a transaction has committed, and forgotten where it is rolled back."""

import logging
import weakref
from typing import Any, Callable, Dict, List, Optional

from sqlalchemy import event
from sqlalchemy.engine import Connection

from ..discreet import discreet

logger = logging.getLogger("pgevents")

Call = Callable[[], Any]

#: Connection's own, in all releases from 1.4 to 2.1: SQLAlchemy's event "commit" comes before
#: the commit, which may fail.
_COMMITS = ("_commit_impl", "_commit_twophase_impl")


def tell(calls: List[Call]) -> None:
    """Make these calls; what one raises is logged, and the others are made."""
    for call in calls:
        try:
            call()
        except Exception as error:
            logger.error("an after_commit listener failed", exc_info=discreet(error))


class Committed:
    """The calls that wait for the transactions of the application's connections."""

    def __init__(self) -> None:
        self._pending: "weakref.WeakKeyDictionary[Connection, Pending]"
        self._pending = weakref.WeakKeyDictionary()

    def after_commit(self, connection: Connection, calls: List[Call]) -> None:
        """Make these calls when the connection's transaction has committed."""
        pending = self._pending.get(connection)
        if pending is None:
            pending = self._pending[connection] = Pending()
            pending.follow(connection)
        pending.calls += calls


class Pending:
    """What waits for the commit of one connection's transaction."""

    def __init__(self) -> None:
        self.calls: List[Call] = []
        self._marks: Dict[str, int] = {}  # savepoint → how many calls were there before it

    def follow(self, connection: Connection) -> None:
        """Notice what becomes of the connection's transactions, for as long as it lives."""
        event.listen(connection, "savepoint", self._savepoint)
        event.listen(connection, "rollback_savepoint", self._rollback_savepoint)
        event.listen(connection, "rollback", self._forget)
        event.listen(connection, "rollback_twophase", self._forget)
        for name in _COMMITS:
            setattr(connection, name, self._then_tell(getattr(connection, name)))

    def _then_tell(self, commit: Callable[..., Any]) -> Callable[..., Any]:
        def committing(*given: Any, **named: Any) -> Any:
            result = commit(*given, **named)
            calls, self.calls = self.calls, []
            self._marks.clear()
            tell(calls)
            return result

        return committing

    def _savepoint(self, connection: Connection, name: Optional[str]) -> None:
        # SQLAlchemy chooses the name when it has told us: the next one that it counts.
        number = getattr(connection, "_Connection__savepoint_seq", 0) + 1
        self._marks[name or f"sa_savepoint_{number}"] = len(self.calls)

    def _rollback_savepoint(self, connection: Connection, name: str, context: Any) -> None:
        # One that is not known is older than all that waits.
        del self.calls[self._marks.get(name, 0) :]

    def _forget(self, connection: Connection, *_: Any) -> None:
        self.calls.clear()
        self._marks.clear()
