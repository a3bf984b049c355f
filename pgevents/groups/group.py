"""A group, as an application looks at it and after it."""

import datetime
import json
import time
from typing import Any, Callable, Dict, Iterable, List, NamedTuple, Optional, Tuple, Union

from .. import checks
from ..database.grouplog import LAST
from ..errors import UsageError
from ..events.entry import Entry
from .dead_letters import DeadLetter
from .ledger import Ledger

WAIT_PAUSE = 0.01  # seconds between two looks of wait()


class Books(NamedTuple):
    """What a Group needs of its hub."""

    ledger: Callable[[], Ledger]
    ledger_of: Callable[[str], Ledger]  # that fits what the group reads
    event: Callable[[str, List[Any], int], Entry]  # of a group's row that was kept as JSON
    wake: Callable[[], None]  # lets the threads of all groups look
    drop: Callable[[str], None]
    hasten: Callable[[str], None]  # lets a group acknowledge what it has handled


class Group:
    """One group of a hub: what it has to do, and what is done about it.

    All methods ask the database, and raise a DatabaseError if that fails, or
    UsageError if the group has never been started.
    """

    def __init__(self, name: str, books: Books) -> None:
        self.name = name
        self._books = books

    def lag(self) -> Tuple[int, float]:
        """Return how many events wait, and how many seconds the oldest has waited."""
        return self._books.ledger_of(self.name).lag(self.name, self._topics())

    def info(self) -> Dict[str, Any]:
        """Return how the group is defined, as a dict: ordered, topics, batch_size, paused, …

        What each process may choose is as the last one that started has it.
        ``backfilled`` is how many rows its backfill had, None if it has none.
        """
        found = self._books.ledger().groups.described(self.name)
        if found is None:
            raise UsageError(f"there is no group {self.name!r}")
        return {
            **found["definition"],
            **found["options"],
            "paused": found["paused"],
            "backfilled": found["backfill"].total or None,
        }

    def progress(self) -> Optional[Dict[str, int]]:
        """Return how many rows of the backfill are handled, of how many: {"done": n, "total": m}.

        None when there is no backfill, or when it is over.
        """
        progress = self._books.ledger().progress(self.name)
        return progress._asdict() if progress.done < progress.total else None

    def served_by(self) -> List[str]:
        """Return the processes that are known to serve it, as "host:pid"; none if nobody does.

        Those that handle something now, and the one that did last or has
        defined it. When that one has ended, another is known in some seconds.
        """
        owners = self._books.ledger().owners(self.name)
        return sorted({owner.rpartition(":")[0] for owner in owners})

    def wait(self, event: Union[int, Entry], timeout: float = 10.0) -> bool:
        """Wait until the group has handled an event, to read what it has written; tell whether.

        ``event`` is an event, a message, or its position. One that is not committed yet is
        waited for, too; one that the group does not listen to counts as handled. Raises
        UsageError where the group has given it up.
        """
        position = event.position if isinstance(event, Entry) else event
        if type(position) is not int or not 0 < position <= LAST:
            raise UsageError(f"wait for {event!r}: give an event, or its position")
        deadline = time.monotonic() + checks.seconds("timeout", timeout)
        ledger, topics = self._books.ledger_of(self.name), self._topics()
        while ledger.waits(self.name, topics, position):
            if time.monotonic() > deadline:
                return False
            self._books.hasten(self.name)
            time.sleep(WAIT_PAUSE)
        return True

    def pause(self) -> None:
        """Let no process claim anything more, until ``resume()``."""
        self._books.ledger().groups.pause(self.name, True)

    def resume(self) -> None:
        """Undo ``pause()``."""
        self._books.ledger().groups.pause(self.name, False)
        self._books.wake()

    def rewind(self, to: Union[str, int, datetime.datetime, Entry]) -> None:
        """Move the group's position: what comes after it is handled, for the first time or again.

        ``to`` is "beginning" (of what the log keeps), "now" (skip what
        waits), an aware datetime, or a position or event, which is handled
        again, too.
        """
        if isinstance(to, Entry):
            to = to.position
        if isinstance(to, datetime.datetime):
            if to.tzinfo is None:
                raise UsageError(f"rewind to {to!r}: a time needs a time zone")
            self._books.ledger_of(self.name).rewind(self.name, to.timestamp())
        elif to in ("beginning", "now") or (type(to) is int and 0 <= to <= LAST):
            self._books.ledger_of(self.name).rewind(self.name, to)
        else:
            raise UsageError(
                f'rewind to {to!r}: give "beginning", "now", a datetime, a position or an event'
            )
        self._books.wake()

    def dead_letters(self, older_than: float = 0.0) -> List[DeadLetter]:
        """Return what the group has given up, oldest first.

        ``older_than``: only what it had given up so many seconds ago.
        """
        checks.seconds("older_than", older_than)
        return [
            DeadLetter(
                row["id"],
                self._books.event(self.name, json.loads(row["event"]), row["attempts"]),
                row["attempts"],
                row["error"],
                row["traceback"],
                datetime.datetime.fromtimestamp(row["at"], datetime.timezone.utc),
            )
            for row in self._books.ledger().dead.all(self.name, older_than)
        ]

    def retry_dead(self, *letters: Union[int, DeadLetter]) -> int:
        """Let these dead letters, or all, be handled again; return how many.

        Those whose event is not in the log any more stay where they are.
        """
        ids = _ids("retry", letters)
        count = self._books.ledger_of(self.name).dead.retry(self.name, ids or None)
        self._books.wake()
        return count

    def discard_dead(self, *letters: Union[int, DeadLetter], older_than: float = 0.0) -> int:
        """Forget these dead letters, or all: their events are never handled; return how many.

        ``older_than``: only those that were given up so many seconds ago, or before.
        """
        ids: Optional[List[int]] = _ids("discard", letters) or None
        if checks.seconds("older_than", older_than):
            old = self._books.ledger().dead.all(self.name, older_than)
            ids = [row["id"] for row in old if ids is None or row["id"] in ids]
        return self._books.ledger().dead.discard(self.name, ids)

    def drop(self) -> None:
        """Forget the group, its position and its dead letters. Its processes must be stopped."""
        self._books.drop(self.name)

    def __repr__(self) -> str:
        return f"<Group {self.name}>"

    def _topics(self) -> List[str]:
        return sorted(self.info()["topics"])


def _ids(verb: str, letters: Iterable[Union[int, DeadLetter]]) -> List[int]:
    ids = [letter.id if isinstance(letter, DeadLetter) else letter for letter in letters]
    for given in ids:
        if type(given) is not int or not 0 <= given <= LAST:
            raise UsageError(f"{verb} {given!r}: give dead letters, or their ids")
    return ids
