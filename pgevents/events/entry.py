"""A row of the log, as a listener receives it: what changes and messages have in common."""

import datetime
from typing import Any, Hashable, Optional, Tuple, cast

from .logrow import AT, CONTEXT, POSITION, TOPIC, TRANSACTION, LogRow
from .values import parse_datetime, parse_json


class Entry:
    """A row of the log. It cannot be changed."""

    __slots__ = ("_row", "_attempt", "_redelivered", "__weakref__")

    _row: LogRow
    _attempt: int
    _redelivered: bool

    #: When it expires, in seconds since 1970 by the database's clock; None: never.
    @property
    def keys(self) -> Optional[Tuple[str, ...]]:
        """By what a registry knows who receives it; None: by what its table is called."""
        return None

    @property
    def until(self) -> Optional[float]:
        return None

    #: What happened: a change's is that of its statement, a message's is ``message``.
    @property
    def operation(self) -> str:
        raise NotImplementedError

    @property
    def moment(self) -> str:
        """What a listener listens for."""
        raise NotImplementedError

    @property
    def key(self) -> Any:
        """What it is about: see the subclasses."""
        raise NotImplementedError

    @property
    def lane(self) -> Optional[Hashable]:
        """What it shares with others that it must stay in order with; None: with all."""
        raise NotImplementedError

    def to_json(self) -> str:
        """Return it as JSON text, for a queue or a file."""
        raise NotImplementedError

    @property
    def topic(self) -> str:
        """What it is about in one string, as the log has it: ``public.orders``."""
        return str(self._row[TOPIC])

    @property
    def id(self) -> str:
        """The name of the entry, the same in every process: a key for telling repetitions."""
        return str(self._row[POSITION])

    @property
    def position(self) -> int:
        """Its number in the log. Numbers may be missing; within one row's history they rise."""
        return int(self._row[POSITION])

    @property
    def at(self) -> datetime.datetime:
        """When it was written, by the database's clock, with time zone."""
        at: Any = self._row[AT]
        return parse_datetime(at) if isinstance(at, str) else cast(datetime.datetime, at)

    @property
    def transaction(self) -> Optional[int]:
        """The number of the transaction that wrote it; None on SQLite, which has none."""
        number = self._row[TRANSACTION]
        return None if number is None else int(number)

    @property
    def context(self) -> Any:
        """What ``hub.context()`` or the setting ``pgevents.context`` held; else an empty dict.

        A setting that is no JSON, or too deep for Python, is given as the text it is.
        """
        text = self._row[CONTEXT]
        if not text:
            return {}
        try:
            return parse_json(text)
        except (ValueError, RecursionError):
            return text

    @property
    def attempt(self) -> int:
        """1 for the first delivery."""
        return self._attempt

    @property
    def redelivered(self) -> bool:
        """True if a listener may have received it before."""
        return self._redelivered

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, type(self)):
            return NotImplemented
        return (self.position, self._row[TOPIC]) == (other.position, other._row[TOPIC])

    def __hash__(self) -> int:
        return hash(self.position)
