"""What a hub knows of the topics in its log: the table's shape, and who may mean it."""

import functools
import threading
import time
from typing import Any, Dict, FrozenSet, Iterable, List, Optional, Tuple

from ..database.backend import Backend
from ..database.relation import Relation
from ..errors import PgEventsError
from ..events.logrow import TOPIC, LogRow
from ..events.values import Shape
from ..listening.target import Target

REFRESH = 5.0  # seconds, at least, between two looks at a table whose rows do not fit
FORMER = 5  # shapes that are kept of a table that is altered again and again


class Topics:
    """Topic ("public.orders") → shape and keys ("orders", "public.orders").

    A topic that nobody named (a listener to ANY hears it) is looked up when
    its first event comes. A table that was altered is looked up when the first
    row comes that was read after that; rows from before keep their meaning.
    """

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._marks = backend.marks
        self._shapes: Dict[str, Shape] = {}
        self._keys: Dict[str, Tuple[str, ...]] = {}
        self._columns: Dict[str, FrozenSet[str]] = {}  # as they were found last
        self._targets: Dict[str, Target] = {}
        self._refreshed: Dict[str, float] = {}
        self._lock = threading.Lock()
        #: Rises when a topic gets another key.
        self.version = 0

    def learn(self, target: Target, relation: Relation) -> None:
        """Remember that ``target`` means this table, and how its rows are read."""
        topic = relation.topic
        best = _better(self._targets.get(topic), target)
        shape = None
        if topic not in self._shapes or best is not self._targets.get(topic):
            shape = self._backend.shape(relation, best)
        with self._lock:
            if shape is not None:
                self._targets[topic] = best
                self._keep(topic, shape)
            keys = self._keys.get(topic, (topic,))
            if target.key not in keys:
                self.version += 1
                keys += (target.key,)
            self._keys[topic] = keys
            self._columns[topic] = frozenset(relation.columns)

    def keys(self, topic: str) -> Tuple[str, ...]:
        """Return what listeners may have called the table."""
        return self._keys.get(topic, (topic,))

    def topics_of(self, target: Target) -> List[str]:
        """Return the topics that a target means."""
        return [topic for topic, keys in self._keys.items() if target.key in keys]

    def shape(self, topic: str) -> Shape:
        """Return how a topic's rows are read; looks in the database if they are new to us."""
        return self._look_again(topic) if self._is_unknown(topic) else self._shapes[topic]

    def unknown(self, topics: Iterable[str]) -> List[str]:
        """Return those of these tables that have to be looked up before rows are read."""
        return sorted(filter(self._is_unknown, topics))

    def look_up(self, topics: List[str]) -> None:
        """Look these tables up, on one connection; if there is none, what is known will do."""
        if not topics:
            return
        try:
            with self._backend.session():
                for topic in topics:
                    self.shape(topic)
        except PgEventsError:
            for topic in topics:
                self._keep(topic, self._unanswered(topic))

    def shapes_of(self, rows: List[LogRow]) -> List[Shape]:
        """Return how each row of the log is read: as its table was when it was written.

        No database is asked: what was ``unknown`` has been looked up.
        """
        now = {topic: self._known_shape(topic) for topic in {row[TOPIC] for row in rows}}
        if any(shape.former is not None for shape in now.values()):
            return [self._at(row, now[row[TOPIC]]) for row in rows]
        return [now[row[TOPIC]] for row in rows]

    def shape_of(self, row: LogRow) -> Shape:
        """Return how a row of the log is read: as its table was when it was written."""
        shape = self.shape(row[TOPIC])
        return shape if shape.former is None else self._at(row, shape)

    def _at(self, row: LogRow, shape: Shape) -> Shape:
        while shape.former is not None and shape.precedes(row):
            shape = shape.former
        return shape

    def known(self) -> List[str]:
        """Return the topics somebody named."""
        return sorted(self._targets)

    def after_fork(self) -> None:
        """In a child: the lock may have been held by a thread that is not here."""
        self._lock = threading.Lock()

    def _is_unknown(self, topic: str) -> bool:
        shape = self._shapes.get(topic)
        return (
            shape is None
            or shape.mark != self._marks.get(topic)
            or (shape.stale and self._due(topic))
        )

    def _known_shape(self, topic: str) -> Shape:
        return self._shapes.get(topic) or _bare(topic)

    def _due(self, topic: str) -> bool:
        return time.monotonic() - self._refreshed.get(topic, float("-inf")) >= REFRESH

    def _look_again(self, topic: str) -> Shape:
        return self._keep(topic, self._look_up(topic))

    def _keep(self, topic: str, shape: Shape) -> Shape:
        former = self._shapes.get(topic)
        if shape is not former:
            shape.present = functools.partial(self._present, topic)
            shape.former = _kept(former, shape.mark)
            self._shapes[topic] = shape
            self._columns[topic] = shape.columns
        return shape

    def _present(self, topic: str) -> FrozenSet[str]:
        return self._columns[topic]

    def _look_up(self, topic: str) -> Shape:
        self._refreshed[topic] = time.monotonic()
        try:
            relation = self._backend.find_topic(topic)
            if relation is not None:
                return self._backend.shape(relation, self._targets.get(topic))
            return self._unanswered(topic, stale=False)
        except PgEventsError:
            return self._unanswered(topic)

    def _unanswered(self, topic: str, stale: bool = True) -> Shape:
        """Return what was known; a ``stale`` one will do until the database can be asked again."""
        self._refreshed[topic] = time.monotonic()
        former = self._known_shape(topic)
        former.stale = former.stale or stale
        former.mark = self._marks.get(topic)
        return former


def _bare(topic: str) -> Shape:
    """Return a shape that gives what JSON gives."""
    schema, _, table = topic.partition(".")
    return Shape(schema, table)


def _kept(former: Optional[Shape], mark: Any) -> Optional[Shape]:
    """Return the shape before one with this mark, with as many before it as are kept."""
    if former is not None and former.mark == mark:  # only looked up again
        return former.former
    last = former
    for _ in range(FORMER - 1):
        last = last and last.former
    if last is not None:
        last.former = None
    return former


def _better(former: Optional[Target], new: Target) -> Target:
    """Choose who describes the table: a mapped class before a Table before a name."""

    def rank(target: Target) -> Tuple[bool, bool, bool]:
        is_class = target.entity is not None or target.model is not None
        return target.table is not None, is_class, target.discriminator is None

    return new if former is None or rank(new) > rank(former) else former
