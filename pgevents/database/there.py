"""What is there: a database as one look found it, and by which rules it is compared.

    look ── There: tables, what services want, triggers ─┐
    listeners, watch() ── Specs ─────────────────────────┴─ capture.plan ── operations

A look asks about all tables at once, in as many statements for a thousand of them as for one.
"""

from typing import Any, Dict, List, NamedTuple, Optional, Set, Tuple, Union

from ..errors import PgEventsError, UsageError
from ..listening.target import Target
from .relation import Relation
from .spec import Spec, Specs, union_of


class Trigger(NamedTuple):
    """A trigger as it has to be: ``mark`` tells its definition from others."""

    name: str
    sql: str
    mark: str


class Found(NamedTuple):
    """A trigger of ours that is there.

    ``fires``: "O" for everybody who writes, "A" also for what replication applies, "D" not for
    everybody.
    """

    mark: Optional[str]
    fires: str = "O"


class Note(NamedTuple):
    """A trigger on a partition that notes its truncation: see postgres/triggers.py."""

    partition: int  # the partition's oid
    name: str
    table: str  # the partition, as SQL has to name it
    sql: str = ""


class View(NamedTuple):
    """What triggers of several tables write to: its definition and its trigger's."""

    name: str
    sql: Tuple[str, ...]


class Rules:
    """What a table's capture has to be on one database. All of it is pure."""

    def triggers(self, relation: Relation, spec: Spec) -> List[Trigger]:
        """Return the triggers that a spec needs."""
        raise NotImplementedError

    def views(self, relation: Relation, spec: Spec) -> List[View]:
        """Return the views that these triggers write to."""
        return []

    def notes(self, relation: Relation, spec: Spec) -> List[Note]:
        """Return the triggers that note when a partition is truncated."""
        return []

    def keeps(self, found: Found, wanted: Trigger) -> bool:
        """Tell whether a trigger that is there may stay as it is."""
        return found.mark == wanted.mark

    def former_serves(self, relation: Relation, spec: Spec, found: Dict[str, Found]) -> bool:
        """Tell whether an earlier release captures, in its way, all that a spec needs.

        A process of it that runs would put its triggers back, again and again.
        """
        return False

    def lacking(self, relation: Relation, spec: Spec, found: Dict[str, Found]) -> Set[str]:
        """Return the columns that triggers which are there do not capture."""
        return set()  # where a trigger names no column

    def writes_to(self, found: Found) -> List[str]:
        """Return the views that a trigger writes to."""
        return []

    def least(self, relation: Relation) -> Relation:
        """Return the table as its triggers must at least suppose it, so that nothing is missed."""
        return relation


class There:
    """What is there.

    log        why the log cannot be used as it is, a sentence; None: it can
    hidden     what to raise, as we would miss rows of the log; None: we see them all
    denied     why each write to a captured table fails, a sentence each
    changed    what somebody has changed of the log, a sentence each
    tables     topic → table: those that were asked for, and some that are captured
    specs      topic → service → what it wants
    triggers   a table's schema and name → name → trigger of ours
    views      name → definitions, of those that triggers write to
    notes      (oid, name) → trigger of ours on a partition
    altered    topics of tables that somebody alters now, in several transactions
    """

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.log: Optional[str] = None
        self.hidden: Optional[PgEventsError] = None
        self.denied: List[str] = []
        self.changed: List[str] = []
        self.tables: Dict[str, Relation] = {}
        self.specs: Dict[str, Dict[str, Spec]] = {}
        self.triggers: Dict[Tuple[str, str], Dict[str, Found]] = {}
        self.views: Dict[str, Tuple[str, ...]] = {}
        self.notes: Dict[Tuple[int, str], Note] = {}
        self.altered: Set[str] = set()
        self.more: Any = None  # what only its own backend understands
        self._meant: Dict[str, Union[Relation, UsageError]] = {}

    def found(self, key: str, meant: Union[Relation, UsageError]) -> None:
        """Keep what a target of this key means, or why it means no table."""
        self._meant[key] = meant
        if isinstance(meant, Relation):
            self.tables[meant.topic] = meant

    def require_rows(self) -> None:
        """Raise Denied where rows of the log are hidden."""
        if self.hidden is not None:
            raise self.hidden

    def has_looked_for(self, target: Target) -> bool:
        """Tell whether the look was for this target, too."""
        return target.key in self._meant

    def find(self, target: Target) -> Relation:
        """Return the table that a target means. Raises UsageError, with the nearest names."""
        meant = self._meant[target.key]
        if isinstance(meant, UsageError):
            raise meant
        return meant

    def meant(self) -> Dict[str, Relation]:
        """Return the tables that were asked for as targets, by the targets' keys."""
        return {key: one for key, one in self._meant.items() if isinstance(one, Relation)}

    def spec(self, topic: str) -> Spec:
        """Return what is captured of a table for all services; no operations: nothing."""
        return union_of(self.specs.get(topic, {}).values())

    def captures(self, topic: str) -> bool:
        """Tell whether anybody wants anything of a table."""
        return bool(self.spec(topic).operations)

    def again(self, specs: Specs) -> Specs:
        """Return the same with the tables as they are now."""
        now = {relation.place: relation for relation in self.tables.values()}
        return [(now.get(table.place, table), spec) for table, spec in specs]
