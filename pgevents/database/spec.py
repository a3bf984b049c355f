"""What a service wants captured of a table, and what serves several services."""

import json
from typing import Any, Dict, Iterable, List, Optional, Set, Tuple

from ..listening.target import OPERATIONS
from .relation import Relation


class Spec:
    """What a service wants captured of a table.

    ``include`` is None for all columns but ``exclude``; ``old``: whether old rows are
    kept whole, or only their keys; None: no opinion. ``open``: no opinion about columns, but
    that ``include`` be among them. What nobody has an opinion about is captured whole:

        open, nothing else             whole
        open | exclude=["card"]        all but card
        whole | exclude=["card"]       whole: a service asks for it
    """

    def __init__(
        self,
        operations: Iterable[str] = OPERATIONS,
        include: Optional[Iterable[str]] = None,
        exclude: Iterable[str] = (),
        old: Optional[bool] = True,
        open: bool = False,
    ) -> None:
        self.operations = tuple(o for o in OPERATIONS if o in set(operations))
        if open and include is None:
            include = ()
        excluded = set(exclude)
        # With include, what is left of it is complete.
        self.include = None if include is None else tuple(sorted(set(include) - excluded))
        self.exclude = tuple(sorted(excluded)) if include is None else ()
        self.old = old
        self.open = open

    def __or__(self, other: "Spec") -> "Spec":
        """Return what serves both."""
        excluded = set(self.exclude) & set(other.exclude)
        include: Optional[Set[str]] = None
        if self.include is not None and other.include is not None:
            include = set(self.include) | set(other.include)
        elif self.include is not None:
            excluded = set(other.exclude) - set(self.include)
        elif other.include is not None:
            excluded = set(self.exclude) - set(other.include)
        opinions = [old for old in (self.old, other.old) if old is not None]
        return Spec(
            self.operations + other.operations,
            include,
            excluded,
            any(opinions) if opinions else None,
            self.open and other.open,
        )

    def settled(self) -> "Spec":
        """Return the same with an opinion about everything: this is captured if nobody objects."""
        include = None if self.open else self.include
        return Spec(self.operations, include, self.exclude, self.old is not False)

    def with_key(self, key: Iterable[str]) -> "Spec":
        """Return the same with these columns in any case: an event has to name its row."""
        include: Optional[Iterable[str]] = self.include
        if include is not None and not self.open:
            include = {*include, *key}
        return Spec(self.operations, include, set(self.exclude) - set(key), self.old, self.open)

    def of(self, columns: Iterable[str]) -> List[str]:
        """Return those of a table's columns that are captured, if nobody objects."""
        settled = self.settled()
        return [
            name
            for name in columns
            if (settled.include is None or name in settled.include) and name not in self.exclude
        ]

    def insists_on(self, columns: Iterable[str]) -> Set[str]:
        """Return the columns that must be captured, whatever other services ask for."""
        return set(self.include or ()) & set(columns) if self.open else set(self.of(columns))

    def serves(self, other: "Spec", columns: Iterable[str]) -> bool:
        """Tell whether all that another wants of a table with these columns is in this."""
        return (
            set(self.operations) >= set(other.operations)
            and set(self.of(columns)) >= other.insists_on(columns)
            and (self.old is not False or not other.old)
        )

    def as_dict(self) -> Dict[str, Any]:
        """Return it as JSON types; ``Spec(**that)`` gives it back."""
        return {
            "operations": list(self.operations),
            "include": None if self.include is None else list(self.include),
            "exclude": list(self.exclude),
            "old": self.old,
            **({"open": True} if self.open else {}),
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spec) and self.as_dict() == other.as_dict()

    def __hash__(self) -> int:
        return hash((self.operations, self.include, self.exclude, self.old, self.open))

    def __repr__(self) -> str:
        return f"Spec({self.as_dict()})"


#: What stays written down of a service that was uninstalled, so that its running hubs know.
#: To a union it adds nothing, in release 0.1 too.
NOTHING = Spec(operations=(), old=None, open=True)
UNINSTALLED = json.dumps(NOTHING.as_dict(), sort_keys=True)  # the same, in a row of ``watch``


def union_of(specs: Iterable[Spec]) -> Spec:
    """Return what is captured to serve them all; nothing, if there are none."""
    union = NOTHING
    for spec in specs:
        union |= spec
    return union.settled()


def is_served(
    spec: Spec, columns: Iterable[str], known: Dict[str, Spec], service: Optional[str] = None
) -> bool:
    """Tell whether what the services want of a table covers a spec.

    With a ``service``, only its own specs count; without, those of all.
    """
    if service is None:
        return union_of(known.values()).serves(spec, columns)
    return service in known and known[service] | spec == known[service]


#: What is wanted of each of some tables.
Specs = List[Tuple[Relation, Spec]]


def uninstalled(service: str, specs: Specs, watched: Dict[str, Dict[str, Spec]]) -> List[str]:
    """Return the topics of tables of which a service wants nothing any more, and no other serves.

    ``watched`` is topic → service → spec, as it is written down.
    """
    known = [(watched.get(relation.topic, {}), relation, spec) for relation, spec in specs]
    return [
        relation.topic
        for said, relation, spec in known
        if said.get(service) == NOTHING and not is_served(spec, relation.columns, said)
    ]
