"""A hub without a database: the test reports what changed."""

import copy
import datetime
import json
from typing import Any, Callable, Dict, Iterable, List, Mapping, Optional

from ..database.backend import Backend
from ..database.relation import Relation
from ..delivery.around import Around, Factory
from ..delivery.delivery import Delivery
from ..delivery.topics import Topics
from ..errors import UsageError
from ..events.event import Event
from ..events.values import Shape
from ..listening.listener import Listener
from ..listening.registry import Registry
from ..listening.registry import default as default_registry
from ..listening.target import Target, as_target
from ..metrics import Metrics
from ..reporter import Reporter
from ..retry import Retry

Given = Mapping[str, Any]


class FakeHub:
    """Calls listeners as a Hub does, but at once, in the caller's thread, for invented changes.

    ``registry`` has the listeners; without one, those of
    ``pgevents.listens_for``. ``schema`` is that of tables named without one:
    "main" where you use SQLite. Listeners with a group are called like the
    others, transactional ones with ``connection``.

    A table is a mapped class, a Table or a name; a row is a dict, column name
    → value as a listener should get it. The primary key is the Table's, or
    else ``id``. All methods return the events.

    What a listener raises is raised to the test, when the others were called,
    too, after as many attempts as ``retry`` allows: one. Raises UsageError for
    a column that the Table does not have.
    """

    def __init__(
        self,
        registry: Optional[Registry] = None,
        schema: str = "public",
        retry: Optional[Retry] = None,
        connection: Any = None,
    ) -> None:
        self.registry = default_registry if registry is None else registry
        self._schema = schema
        self._topics = Topics(_Nowhere())
        self._errors: List[BaseException] = []
        metrics = Metrics()
        self._position = 0
        self._around = Around()
        self._deliver = Delivery(
            _Everybody(self.registry),
            self._topics,
            retry or Retry(attempts=1),
            metrics,
            _Reporter(self, metrics, self._errors),
            self._around,
            connection,
        )

    def around(self, factory: Factory) -> Factory:
        """Call each listener within a context manager, as ``Hub.around()`` does."""
        self._around.add(factory)
        return factory

    def insert(self, table: Any, *new: Given, context: Any = None) -> List[Event]:
        """Report that rows were inserted, in one batch."""
        return self._change(table, "insert", [(None, row) for row in new], context)

    def update(self, table: Any, old: Given, new: Given, context: Any = None) -> List[Event]:
        """Report that a row was updated; ``new`` need not repeat what stays as it was.

        An update that changes nothing is no event.
        """
        whole = {**old, **new}
        return self._change(table, "update", [(old, whole)] if whole != old else [], context)

    def delete(self, table: Any, *old: Given, context: Any = None) -> List[Event]:
        """Report that rows were deleted, in one batch."""
        return self._change(table, "delete", [(row, None) for row in old], context)

    def truncate(self, table: Any, context: Any = None) -> List[Event]:
        """Report that a table was truncated."""
        return self._change(table, "truncate", [(None, None)], context)

    def _change(self, table: Any, operation: str, rows: List[Any], context: Any) -> List[Event]:
        relation = self._learn(as_target(table))
        shape = self._topics.shape(relation.topic)
        text = None if context is None else json.dumps(context)
        now = datetime.datetime.now(datetime.timezone.utc)
        events = []
        for old, new in rows:
            _check_columns(relation, {**(old or {}), **(new or {})})
            self._position += 1
            what = (relation.topic, operation, old and dict(old), new and dict(new))
            events.append(Event((self._position, self._position, now, *what, text), shape))
        self._errors.clear()
        self._deliver(list(events))
        if self._errors:
            raise self._errors[0]
        return events

    def _learn(self, target: Target) -> Relation:
        """Return the table; let the topics know by which names it is listened to."""
        schema = target.schema or self._schema
        named = [target, Target(schema, target.name)]
        named += [listener.target for listener, _ in self.registry.all() if listener.target]
        same = [
            one for one in named if (one.schema or self._schema, one.name) == (schema, target.name)
        ]
        table = next((one.table for one in same if one.table is not None), None)
        columns = () if table is None else tuple(column.name for column in table.columns)
        key = ("id",) if table is None else tuple(c.name for c in table.primary_key.columns)
        relation = Relation(schema, target.name, columns, key)
        for one in same:
            self._topics.learn(one, relation)
        return relation


class _Reporter(Reporter):
    """Keeps the errors of listeners, to be raised in the test, and sends their signals, too."""

    def __init__(self, hub: Any, metrics: Metrics, errors: List[BaseException]) -> None:
        super().__init__(hub, metrics)
        self._errors = errors

    def listener_failed(
        self, listener: Callable[..., Any], events: List[Event], error: BaseException
    ) -> None:
        self._errors.append(error)
        super().listener_failed(listener, events, error)


class _Everybody(Registry):
    """What a Delivery needs of a registry, with the groups' listeners among the plain ones."""

    def __init__(self, registry: Registry) -> None:
        # Not super(): nobody is registered here.
        self._registry = registry

    @property
    def version(self) -> int:  # type: ignore[override]
        return self._registry.version

    def listeners(self, keys: Iterable[str], moment: str) -> List[Listener]:
        return [self._plain_one(one) for one in self._registry.listeners(keys, moment)]

    def spend(self, listener: Listener) -> bool:
        return self._registry.spend(listener)

    def _plain_one(self, listener: Listener) -> Listener:
        if listener.group is None:
            return listener
        plain = copy.copy(listener)
        plain.group = None
        return plain


class _Nowhere(Backend):
    """In a database's place: rows are what the test gave."""

    dialect = "none"

    def find_topic(self, topic: str) -> Optional[Relation]:
        return None

    def shape(self, relation: Relation, target: Optional[Target]) -> Shape:
        entity = None if target is None else target.entity
        columns, key = relation.columns, relation.key
        model = None if target is None else target.model
        return Shape(
            relation.schema, relation.name, columns, key, parse=_same, entity=entity, model=model
        )


def _same(row: Any) -> Any:
    return row


def _check_columns(relation: Relation, row: Dict[str, Any]) -> None:
    unknown = sorted(set(row) - set(relation.columns)) if relation.columns else []
    if unknown:
        raise UsageError(
            f"{relation.topic} has no column {unknown[0]!r}; there are"
            f" {', '.join(relation.columns)}"
        )
