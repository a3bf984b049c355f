"""What a hub wants captured: what was said with watch(), and what its listeners hear."""

import contextlib
from typing import Any, Callable, Dict, Iterable, Iterator, List, Mapping, Optional, Set, Tuple

from ..database.backend import Backend
from ..database.relation import Relation, of_one_topic
from ..database.spec import Spec, Specs, union_of
from ..database.there import There
from ..errors import UsageError
from ..events.kinds import Kind, describe
from ..listening.columns import column_names
from ..listening.listener import Listener
from ..listening.registry import Registry
from ..listening.table_listener import TableListener
from ..listening.target import OPERATIONS, Target, as_target, moments_of


class Wanted:
    """The capture specs of one hub."""

    def __init__(self, backend: Backend, registry: Registry) -> None:
        self._backend = backend
        self._registry = registry
        self._watched: List[Tuple[Target, Spec]] = []
        #: Topic and the Table that declares types → the table's mark, kinds of its values.
        self._kinds: Dict[Tuple[str, int], Tuple[Any, Mapping[str, Kind]]] = {}

    def watch(
        self,
        target: Any,
        moments: Tuple[str, ...],
        include: Optional[Iterable[Any]],
        exclude: Optional[Iterable[Any]],
        old: bool,
    ) -> None:
        """Remember what of a table is to be captured: see Hub.watch(). Raises UsageError."""
        if include is not None and exclude is not None:
            raise UsageError("give include= or exclude=, not both")
        if isinstance(include, str) or isinstance(exclude, str):
            raise UsageError("include= and exclude= are lists of column names")
        operations = [m[len("after_") :] for m in moments_of(moments)] if moments else OPERATIONS
        table = as_target(target)
        included = None if include is None else column_names(table, include)
        excluded = column_names(table, exclude or ())
        self._watched.append((table, Spec(operations, included, excluded, old)))

    def targets(self) -> List[Target]:
        """Return each table that is watched or listened to, once for each name it is given."""
        given = [target for target, _ in self._watched]
        given += [one.target for one, _ in self._registry.all() if one.target is not None]
        return list({target.key: target for target in given}.values())

    def all(
        self,
        there: There,
        find: Optional[Callable[[Target], Optional[Relation]]] = None,
        unfit: Optional[Callable[[UsageError], None]] = None,
    ) -> Specs:
        """Return what to capture of each table; ``there`` is what a look at ``targets()`` found.

        ``find`` looks tables up in it; one that it does not find is left out.
        Raises UsageError for a column that cannot be captured, such as one that there is
        not; or gives it to ``unfit``, and the rest of that spec counts.
        """
        find = find or there.find
        specs: Dict[str, Tuple[Relation, Spec]] = {}

        def want(relation: Relation, spec: Spec) -> None:
            known = specs.get(relation.topic)
            if known is not None and known[0].schema != relation.schema:
                names = [f'"{one.schema}"."{one.name}"' for one in (known[0], relation)]
                with _given_to(unfit):
                    raise UsageError(of_one_topic(relation.topic, names))
                return
            specs[relation.topic] = relation, spec if known is None else known[1] | spec

        for target, spec in self._watched:
            relation = find(target)
            if relation is not None:
                with _given_to(unfit):
                    _check_watch(target, spec, relation)
                want(relation, spec.with_key(relation.key))
        said = {topic: spec for topic, (_, spec) in specs.items()}
        heard: Dict[Tuple[Tuple[str, str], Spec], Relation] = {}
        for listener, moments in self._registry.all():
            if listener.target is None or not there.has_looked_for(listener.target):
                continue  # what came after the look is seen to by Upkeep.add()
            relation = find(listener.target)
            if relation is not None:
                told = said.get(relation.topic)
                if told is None:
                    told = said[relation.topic] = there.spec(relation.topic)
                with _given_to(unfit):
                    _check_listener(listener, relation, told)
                    self._check_where(listener, relation)
                # Thousands may want the same.
                heard[relation.place, _heard(listener, moments, relation)] = relation
        for (_, spec), relation in heard.items():
            want(relation, spec)
        return list(specs.values())

    def one(
        self, there: There, listener: Listener, moments: Tuple[str, ...], relation: Relation
    ) -> Specs:
        """Return what one more listener wants. Raises UsageError."""
        _check_listener(listener, relation, there.spec(relation.topic))
        self._check_where(listener, relation)
        return [(relation, _heard(listener, moments, relation))]

    def _check_where(self, listener: Listener, relation: Relation) -> None:
        """Refuse a ``where`` that no row can match."""
        if not isinstance(listener, TableListener) or listener.target is None:
            return
        if not isinstance(listener.where, dict):
            return
        kinds = self._kinds_of(relation, listener.target)
        for name, value in listener.where.items():
            kind = kinds.get(name)
            if kind is not None and not kind.may_equal(value):
                raise UsageError(
                    f"{listener.name} asks for {relation.topic}.{name} == {describe(value)}: no"
                    f" value of that column equals it. They are of type {kind}; for a choice, or"
                    " for a comparison of your own, give a function as where="
                )

    def _kinds_of(self, relation: Relation, target: Target) -> Mapping[str, Kind]:
        """Return of which kinds a table's values are, looked up again when it was altered."""
        place, mark = (relation.topic, id(target.table)), relation.more["mark"]
        found = self._kinds.get(place)
        if found is None or found[0] != mark:
            found = self._kinds[place] = mark, self._backend.shape(relation, target).kinds()
        return found[1]

    def overruled(self, service: str, wanted: Specs, there: There) -> List[str]:
        """Tell of what is captured though it was left out: a sentence for each table."""
        found = []
        for relation, spec in wanted:
            if spec.open:
                continue
            known = there.specs.get(relation.topic, {})
            captured = union_of(known.values()).with_key(relation.key)
            columns = set(captured.of(relation.columns)) - set(spec.of(relation.columns))
            old = captured.old is True and spec.old is False
            if columns or old:
                what = ", ".join(sorted(columns) + ["old rows"] * old)
                why = _who_wants(columns, old, service, relation, known)
                found.append(
                    f"{relation.label}: left out here, and captured all the same: {what}; {why}"
                )
        return found


def _who_wants(
    columns: Set[str], old: bool, service: str, relation: Relation, known: Dict[str, Spec]
) -> str:
    wanting = {
        name
        for name, spec in known.items()
        if spec.insists_on(relation.columns) & columns or (old and spec.old)
    }
    others = ", ".join(repr(name) for name in sorted(wanting - {service}))
    reasons = [f"wanted by the service {others}"] if others else []
    if service in wanting:
        reasons.append(
            f"the service {service!r} itself asked for it earlier, which only uninstall() forgets"
        )
    return ", and ".join(reasons) or "whoever installed it did not leave it out"


def _heard(listener: Listener, moments: Tuple[str, ...], relation: Relation) -> Spec:
    """Return what a listener needs captured of a table.

    A listener has no opinion about columns, but for those that it names: where
    some were left out, they stay out.
    """
    operations = [moment[len("after_") :] for moment in moments]
    # What has changed is known by the old row alone, and so is a deleted row but for its key.
    of_deleted = "delete" in operations and listener.columns_of_row() - set(relation.key)
    compares = isinstance(listener, TableListener) and listener.columns is not None
    old = True if compares or of_deleted else None
    return Spec(operations, listener.column_names(), old=old, open=True)


@contextlib.contextmanager
def _given_to(unfit: Optional[Callable[[UsageError], None]]) -> Iterator[None]:
    try:
        yield
    except UsageError as error:
        if unfit is None:
            raise
        unfit(error)


def _check_listener(listener: Listener, relation: Relation, told: Spec) -> None:
    """Refuse a listener to what is not captured; ``told`` is what is said of the table already."""
    names = listener.column_names()
    _check_columns(listener.name, names, relation)
    left_out = sorted(names - set(told.of(relation.columns)))
    if left_out:
        raise UsageError(
            f"{listener.name} asks for {relation.topic}.{left_out[0]}, which is not captured:"
            " hub.watch() says what is"
        )


def _check_watch(target: Target, spec: Spec, relation: Relation) -> None:
    named = {*(spec.include or ()), *spec.exclude}
    _check_columns(f"watch({target.key!r})", named, relation)
    excluded = sorted(set(spec.exclude) & set(relation.key))
    if excluded:
        raise UsageError(
            f"watch({target.key!r}) leaves out {relation.topic}.{excluded[0]}, which is its key:"
            " an event has to say which row it was, so the key is always captured"
        )


def _check_columns(who: str, names: Iterable[str], relation: Relation) -> None:
    unknown = sorted(set(names) - set(relation.columns))
    if unknown:
        raise UsageError(
            f"{who} asks for {relation.topic}.{unknown[0]}, which is no column; there are"
            f" {', '.join(relation.columns)}"
        )
