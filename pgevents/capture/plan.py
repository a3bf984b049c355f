"""What is to be done: what is wanted, compared with what is there, as a list of operations.

    what is wanted  ─┐
                     ├─ compare() ── [InstallLog, Record, CreateTrigger, EnableTrigger, …]
    what is there   ─┘                  │
                                        ├─ applied, with locks         hub.start(), install
                                        ├─ as SQL                      pgevents sql
                                        └─ as sentences and states     status, the periodic check

Nothing here talks to a database.
"""

from typing import Any, Dict, List, NamedTuple, Optional

from ..database.relation import Relation
from ..database.spec import NOTHING, Spec, Specs, is_served, union_of
from ..database.there import Note, There, Trigger, View


class InstallLog(NamedTuple):
    """Create or upgrade the log: its tables, functions and rights."""


class Record(NamedTuple):
    """Write down that a service wants ``spec``, in all ``total``, of a table."""

    service: Optional[str]
    relation: Relation
    spec: Spec
    total: Spec


class AwaitMigration(NamedTuple):
    """Leave a table alone that somebody alters now."""

    relation: Relation


class CreateView(NamedTuple):
    """Create the view that triggers of several tables write to; replace one that differs."""

    relation: Relation
    view: View


class CreateTrigger(NamedTuple):
    """Make a trigger that is missing."""

    relation: Relation
    trigger: Trigger


class ReplaceTrigger(NamedTuple):
    """Replace a trigger that has another definition; ``always``: it keeps ENABLE ALWAYS."""

    relation: Relation
    trigger: Trigger
    always: bool


class EnableTrigger(NamedTuple):
    """Enable a trigger that somebody disabled."""

    relation: Relation
    name: str


class DropTrigger(NamedTuple):
    """Take a trigger that nobody wants."""

    relation: Relation
    name: str


class NoteTruncation(NamedTuple):
    """Make a trigger on a partition that notes its truncation."""

    relation: Relation
    note: Note


class Forget(NamedTuple):
    """Forget what was wanted of a table that is gone."""

    topic: str


class DropNote(NamedTuple):
    """Take the trigger from a partition that was detached, or whose table nobody captures."""

    note: Note


class DropView(NamedTuple):
    """Drop a view that no trigger writes to any more."""

    name: str


#: One of the above.
Operation = Any

#: What makes changes be captured that are not captured now.
_CAPTURING = (Record, AwaitMigration, CreateView, CreateTrigger, ReplaceTrigger, EnableTrigger)


def compare(
    there: There, specs: Specs, service: Optional[str] = None, asked: bool = True
) -> List[Operation]:
    """Return what is to be done so that all of this is captured.

    For a ``service`` its own specs are to be recorded, too; but unless ``asked``, what it has
    uninstalled stays so. Without, it is enough that somebody's cover them, and that what an
    earlier release has made captures all. Raises Denied where rows of the log are hidden.
    """
    there.require_rows()
    operations: List[Operation] = [] if there.log is None else [InstallLog()]
    for relation, spec in specs:
        operations += _table(there, relation, spec, service, asked)
    return operations


def settle(there: There, relation: Relation, known: Dict[str, Spec]) -> List[Operation]:
    """Return what is to be done to a table so that what these services want is captured of it."""
    return _capture(there, relation, union_of(known.values()))


def leftovers(there: There) -> List[Operation]:
    """Return what is to be taken away: what belongs to tables that are gone, or not captured.

    The look must have been for all that is captured.
    """
    operations: List[Operation] = [
        Forget(topic)
        for topic, known in sorted(there.specs.items())
        if topic not in there.tables and any(spec != NOTHING for spec in known.values())
    ]
    kept = {topic for topic in there.specs if topic in there.tables and there.captures(topic)}
    for topic, relation in sorted(there.tables.items()):
        if topic not in kept:
            found = there.triggers.get(relation.place, {})
            operations += [DropTrigger(relation, name) for name in found]
    notes, views = dict(there.notes), dict(there.views)
    for topic in kept:
        for note in there.rules.notes(there.tables[topic], there.spec(topic)):
            notes.pop((note.partition, note.name), None)
        for trigger in there.triggers.get(there.tables[topic].place, {}).values():
            for view in there.rules.writes_to(trigger):
                views.pop(view, None)
    return operations + [DropNote(note) for note in notes.values()] + list(map(DropView, views))


# As sentences.


def missing(there: There, specs: Specs, service: Optional[str] = None) -> List[str]:
    """Name what is not installed, or outdated: a sentence each. Empty if all is well.

    With a ``service``, its own specs must be recorded, too. Raises Denied as ``compare()`` does.
    """
    there.require_rows()
    if there.log is not None:
        return [there.log]
    notes = [
        f"nobody would notice that {one.relation.more['partitions'][one.note.partition]},"
        f" a partition of {one.relation.topic}, is truncated"
        for one in compare(there, specs, service)
        if isinstance(one, NoteTruncation)
    ]
    return _not_captured(there, specs, service) + notes


def unheard(there: There, specs: Specs) -> List[str]:
    """Name of what is missing that by which changes are not captured: a sentence each.

    Triggers for each row, of a table that was detached, do until they are replaced; a
    partition that is new was not truncated yet.
    """
    least = [(there.rules.least(relation), spec) for relation, spec in specs]
    deaf = set(_not_captured(there, least))
    return [sentence for sentence in _not_captured(there, specs) if sentence in deaf]


def lacking(there: There, specs: Specs) -> List[str]:
    """Name the columns that triggers which are there do not capture: a sentence each."""
    found = []
    for relation, _ in specs:
        union = there.spec(relation.topic)
        triggers = there.triggers.get(relation.place, {})
        columns = there.rules.lacking(relation, union, triggers)
        if columns and _capture(there, relation, union):
            found.append(
                f"{relation.topic} was altered while no hub ran: what was written since lacks"
                f" {', '.join(sorted(columns))}"
            )
    return found


def installed(there: There) -> List[Dict[str, Any]]:
    """Return what is captured: a dict for each table. The look must have been for all of it."""
    return [
        {
            "table": there.tables[topic].label if topic in there.tables else topic,
            **there.spec(topic).as_dict(),
            "services": sorted(name for name, spec in known.items() if spec != NOTHING),
            "state": _state(there, topic),
        }
        for topic, known in sorted(there.specs.items())
        if there.captures(topic)
    ]


def _state(there: There, topic: str) -> str:
    if topic not in there.tables:
        return "gone"
    if there.denied:
        return "denied"
    current = there.log is None and not there.changed
    if not current or settle(there, there.tables[topic], there.specs[topic]):
        return "outdated"
    return "ok"


def _not_captured(there: There, specs: Specs, service: Optional[str] = None) -> List[str]:
    there.require_rows()
    if there.log is not None:
        return [there.log]
    if there.denied:
        return there.denied
    found = list(there.changed)
    for relation, spec in specs:
        operations = _table(there, relation, spec, service)
        kinds = {type(one) for one in operations}
        if AwaitMigration in kinds:
            found.append(f"{relation.topic} is being altered, and has no triggers meanwhile")
        elif Record in kinds:
            found.append(f"{relation.topic} is not watched for {', '.join(spec.operations)}")
        elif kinds - {NoteTruncation}:
            found.append(f"a trigger of {relation.topic} is missing, disabled or outdated")
    return found


# One table.


def _table(
    there: There, relation: Relation, spec: Spec, service: Optional[str], asked: bool = True
) -> List[Operation]:
    known = there.specs.get(relation.topic, {})
    operations: List[Operation] = []
    former = known.get(service or "")
    if not is_served(spec, relation.columns, known, service) and (asked or former != NOTHING):
        # In union: a web process and a worker of the same service may each
        # know only some of its listeners.
        total = former | spec if former else spec
        operations.append(Record(service, relation, spec, total))
        known = {**known, (service or ""): total}
    if relation.topic in there.altered:
        return operations + [AwaitMigration(relation)]
    union = union_of(known.values())
    if not operations and service is None:
        found = there.triggers.get(relation.place, {})
        if there.rules.former_serves(relation, union, found):
            return []
    return operations + _capture(there, relation, union)


def _capture(there: There, relation: Relation, union: Spec) -> List[Operation]:
    """Make the table's triggers what its services want, no more and no less."""
    found = there.triggers.get(relation.place, {})
    wanted = there.rules.triggers(relation, union)
    operations: List[Operation] = [
        CreateView(relation, view)
        for view in there.rules.views(relation, union)
        if there.views.get(view.name) != view.sql
    ]
    operations += [
        DropTrigger(relation, name) for name in found.keys() - {trigger.name for trigger in wanted}
    ]
    for trigger in wanted:
        present = found.get(trigger.name)
        if present is None:
            operations.append(CreateTrigger(relation, trigger))
        elif not there.rules.keeps(present, trigger):
            operations.append(ReplaceTrigger(relation, trigger, present.fires == "A"))
        elif present.fires == "D":
            operations.append(EnableTrigger(relation, trigger.name))
    operations += [
        NoteTruncation(relation, note)
        for note in there.rules.notes(relation, union)
        if (note.partition, note.name) not in there.notes
    ]
    return operations
