"""What a hub wants captured: what was said with watch(), and what its listeners hear."""

from typing import Any, Callable, Dict, Iterable, List, Optional, Tuple

from .backend import Backend, Relation, Wish
from .errors import UsageError
from .registry import Listener, Registry
from .target import OPERATIONS, Target, as_target, moments_of

Wanted = List[Tuple[Relation, Wish]]


class Wishes:
    """The wishes of one hub."""

    def __init__(self, backend: Backend, registry: Registry) -> None:
        self._backend = backend
        self._registry = registry
        self._watched: List[Tuple[Target, Wish]] = []

    def watch(
        self,
        target: Any,
        moments: Tuple[str, ...],
        include: Optional[Iterable[str]],
        exclude: Optional[Iterable[str]],
        old: bool,
    ) -> None:
        """Remember what of a table is to be captured: see Hub.watch(). Raises UsageError."""
        if include is not None and exclude is not None:
            raise UsageError("give include= or exclude=, not both")
        if isinstance(include, str) or isinstance(exclude, str):
            raise UsageError("include= and exclude= are lists of column names")
        operations = [m[len("after_") :] for m in moments_of(moments)] if moments else OPERATIONS
        self._watched.append((as_target(target), Wish(operations, include, exclude or (), old)))

    def all(self, find: Optional[Callable[[Target], Optional[Relation]]] = None) -> Wanted:
        """Return what to capture of each table.

        ``find`` looks tables up; one that it does not find is left out.
        Raises UsageError for a column that a table does not have.
        """
        find = find or self._backend.find
        wishes: Dict[str, Tuple[Relation, Wish]] = {}

        def want(relation: Relation, wish: Wish) -> None:
            known = wishes.get(relation.topic)
            wishes[relation.topic] = relation, wish if known is None else known[1] | wish

        for target, wish in self._watched:
            relation = find(target)
            if relation is not None:
                _check_columns(
                    f"watch({target.key!r})", {*(wish.include or ()), *wish.exclude}, relation
                )
                want(relation, wish.with_key(relation.key))
        said = {topic: wish for topic, (_, wish) in wishes.items()}
        for listener, moments in self._registry.all():
            relation = None if listener.target is None else find(listener.target)
            if relation is not None:
                told = said.get(relation.topic) or self._backend.wish(relation.topic)
                want(relation, _heard(listener, moments, relation, told))
        return list(wishes.values())

    def one(self, listener: Listener, moments: Tuple[str, ...], relation: Relation) -> Wanted:
        """Return what one more listener wants. Raises UsageError."""
        told = self._backend.wish(relation.topic)
        return [(relation, _heard(listener, moments, relation, told))]


def _heard(
    listener: Listener, moments: Tuple[str, ...], relation: Relation, told: Wish
) -> Wish:
    """Return what a listener needs captured of a table; ``told`` is what is said of it already.

    A listener has no opinion about columns: where some were left out, they
    stay out. Raises UsageError if it asks for one of those.
    """
    _check_columns(listener.name, listener.column_names(), relation)
    operations = [moment[len("after_") :] for moment in moments]
    if not told.operations:
        return Wish(operations)
    left_out = sorted(listener.column_names() - set(told.of(relation.columns)))
    if left_out:
        raise UsageError(
            f"{listener.name} asks for {relation.topic}.{left_out[0]}, which is not captured:"
            " hub.watch() says what is"
        )
    return Wish(operations, told.include, told.exclude, told.old or listener.columns is not None)


def _check_columns(who: str, names: Iterable[str], relation: Relation) -> None:
    unknown = sorted(set(names) - set(relation.columns))
    if unknown:
        raise UsageError(
            f"{who} asks for {relation.topic}.{unknown[0]}, which is no column; there are"
            f" {', '.join(relation.columns)}"
        )
