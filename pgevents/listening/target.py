"""What somebody listens to: a mapped class, a Table, a name, or ANY."""

from typing import Any, Callable, FrozenSet, List, Optional, Tuple

from sqlalchemy import Column, Table
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.orm import Mapper

from .. import checks
from ..errors import UsageError

#: The four operations, and the moment that follows each.
OPERATIONS = ("insert", "update", "delete", "truncate")
MOMENTS = tuple("after_" + operation for operation in OPERATIONS)
#: A moment that stands for several.
AFTER_CHANGE = MOMENTS[:3]


def operation_of(moment: str) -> str:
    """Return the operation of a moment: "insert" of "after_insert", "message" of itself."""
    return moment[len("after_") :] if moment.startswith("after_") else moment


class _Any:
    """Every captured table."""

    def __repr__(self) -> str:
        return "ANY"

    def __reduce__(self) -> str:
        return "ANY"


ANY = _Any()


class Model:
    """What a target knows of its model, where that is of another ORM than SQLAlchemy's."""

    def column(self, thing: Any) -> Any:
        """Return the column's name for a field, or a field's name; other things as they are."""
        raise NotImplementedError

    def value(self, column: str, value: Any) -> Any:
        """Return what the rows of events have for a value of a ``where``."""
        raise NotImplementedError

    def load(self, event: Any, using: Any, entity: Any) -> Any:
        """Return the object of the event's row as it is now, or None: see ``Event.load()``."""
        raise NotImplementedError


class Target:
    """A table, as its listener named it.

    ``schema`` is None where none was given: the database decides which table
    that is. ``entity`` is the mapped class, if it was one; then
    ``discriminator``: how its rows differ from its siblings' in the same table
    (single table inheritance): (column name, identities). ``model`` is there where
    it was a model of another ORM.
    """

    __slots__ = ("schema", "name", "table", "entity", "discriminator", "model")

    def __init__(
        self,
        schema: Optional[str],
        name: str,
        table: Optional[Table] = None,
        entity: Optional[type] = None,
        discriminator: Optional[Tuple[str, FrozenSet[Any]]] = None,
        model: Optional[Model] = None,
    ) -> None:
        self.schema = schema
        self.name = name
        self.table = table
        self.entity = entity
        self.discriminator = discriminator
        self.model = model

    @property
    def key(self) -> str:
        """The table in one string, quoted as in SQL where it has to be."""
        if self.schema is None:
            return _quoted(self.name)
        return f"{_quoted(self.schema)}.{_quoted(self.name)}"

    def __repr__(self) -> str:
        return f"Target({self.key})"


#: Each returns the target of a model of another ORM, and None for anything else.
_translators: List[Callable[[Any], Optional[Target]]] = []


def translate(translator: Callable[[Any], Optional[Target]]) -> None:
    """Let ``as_target()`` take the models of another ORM."""
    if translator not in _translators:
        _translators.append(translator)


def as_target(thing: Any) -> Target:
    """Return which table a caller means by ``thing``.

    Raises UsageError when it is neither a mapped class, a Table nor a name.
    """
    if isinstance(thing, Target):
        return thing
    if isinstance(thing, str):
        schema, name = _split(checks.name("table", thing))
        return Target(schema, name)
    if isinstance(thing, Table):
        return Target(thing.schema, thing.name, thing)
    for translator in _translators:
        target = translator(thing)
        if target is not None:
            return target
    mapper = sqlalchemy_inspect(thing, raiseerr=False) if isinstance(thing, type) else None
    if not isinstance(mapper, Mapper):
        raise UsageError(
            f"cannot listen to {thing!r}: give a mapped class, a Table, a name such as"
            ' "orders" or "sales.orders", or ANY'
        )
    table = mapper.local_table
    if not isinstance(table, Table):
        raise UsageError(
            f"cannot listen to {thing!r}: it is mapped to a {type(table).__name__}, not to a table"
        )
    return Target(table.schema, table.name, table, mapper.class_, _discriminator(mapper))


def moments_of(identifier: Any) -> Tuple[str, ...]:
    """Expand a moment, or several, into those that events bear.

    Raises UsageError, with the choices, for an unknown one.
    """
    given = (identifier,) if isinstance(identifier, str) else tuple(identifier)
    if not given:
        raise UsageError(f"no moment given: listen for one of {_choices()}")
    moments: List[str] = []
    for moment in given:
        if moment == "after_change":
            moments.extend(AFTER_CHANGE)
        elif moment in MOMENTS:
            moments.append(moment)
        else:
            raise UsageError(f"no moment {moment!r}: listen for one of {_choices()}")
    return tuple(dict.fromkeys(moments))


def _choices() -> str:
    return ", ".join(MOMENTS + ("after_change",))


def _discriminator(mapper: Any) -> Optional[Tuple[str, FrozenSet[Any]]]:
    """Return how a class's rows differ from its siblings' in one table; None if it has no siblings.

    Raises UsageError where that is no column of the table: events would be those of all siblings.
    """
    column = mapper.polymorphic_on
    if not mapper.single or column is None:
        return None
    if not isinstance(column, Column) or column.table is not mapper.local_table:
        name, what = mapper.class_.__name__, "an expression"
        if isinstance(column, Column):
            what = f"{column}, a column of another table"
        raise UsageError(
            f"cannot listen to {name}: its rows in {mapper.local_table.fullname} are known by"
            f" {what}, which an event does not have. Listen to"
            f" {mapper.inherits.class_.__name__}, with a function as where="
        )
    identities = (one.polymorphic_identity for one in mapper.self_and_descendants)
    return str(column.name), frozenset(one for one in identities if one is not None)


def _quoted(name: str) -> str:
    if "." in name or '"' in name:
        return '"' + name.replace('"', '""') + '"'
    return name


def _split(text: str) -> Tuple[Optional[str], str]:
    """Split a name at its first dot; parts in double quotes are taken as they are."""
    parts = []
    rest = text
    while True:
        part, rest = _first_part(text, rest)
        parts.append(part)
        if not rest:
            break
        rest = rest[1:]
    if not all(parts) or len(parts) > 2:
        raise UsageError(
            f'no table name: {text!r}. Write "orders", "sales.orders", or with double quotes'
            " around a part that contains a dot"
        )
    return (parts[0], parts[1]) if len(parts) == 2 else (None, parts[0])


def _first_part(text: str, rest: str) -> Tuple[str, str]:
    """Return the first part of ``rest``, unquoted, and what follows, a dot or nothing."""
    if not rest.startswith('"'):
        part, dot, after = rest.partition(".")
        return part, dot + after
    end = 1
    while True:
        end = rest.find('"', end)
        if end < 0:
            raise UsageError(f"no table name: {text!r} has an opening quote without a closing one")
        if rest[end + 1 : end + 2] != '"':
            break
        end += 2
    after = rest[end + 1 :]
    if after and not after.startswith("."):
        raise UsageError(f"no table name: {text!r} goes on after a closing quote")
    return rest[1:end].replace('""', '"'), after
