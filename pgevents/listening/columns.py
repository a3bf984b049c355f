"""What a listener names as a column: a name, a Column, a mapped attribute.

An event has the columns of one table and nothing else, so what is computed
(hybrids, expressions), related, or in another table is refused.
"""

from typing import Any, Iterable, List, Mapping, Optional, Tuple

from sqlalchemy import Table
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.ext.associationproxy import AssociationProxy
from sqlalchemy.ext.hybrid import hybrid_property
from sqlalchemy.orm import Mapper, RelationshipProperty
from sqlalchemy.orm.attributes import QueryableAttribute
from sqlalchemy.schema import Column
from sqlalchemy.sql import ClauseElement

from ..errors import UsageError
from .target import Target


def column_names(target: Optional[Target], given: Any) -> List[str]:
    """Return the columns that a list names; a composite stands for all of its columns.

    ``target`` is None for ANY. Raises UsageError.
    """
    if isinstance(given, (str, ClauseElement, QueryableAttribute)):
        given = (given,)
    try:
        things = list(given)
    except (TypeError, NotImplementedError):
        things = [given]
    return [name for thing in things for name in _names(target, thing)]


def values_by_column(target: Optional[Target], given: Mapping[Any, Any]) -> List[Tuple[str, Any]]:
    """Return column and value of each pair of a ``where``. Raises UsageError."""
    pairs = []
    for thing, value in given.items():
        names = _names(target, thing)
        if len(names) > 1:
            raise UsageError(
                f"where: {_label(thing)} stands for several columns: name them,"
                f" {', '.join(names)}"
            )
        if target is not None and target.model is not None:
            value = target.model.value(names[0], value)
        pairs.append((names[0], value))
    twice = _first_twice(name for name, _ in pairs)
    if twice is not None:
        raise UsageError(f"where names {twice!r} twice")
    return pairs


def _names(target: Optional[Target], thing: Any) -> List[str]:
    if target is not None and target.model is not None:
        thing = target.model.column(thing)
    if isinstance(thing, str):
        return _by_text(target, thing)
    key = _key_in_mixin(target, thing)
    if key is not None:
        thing = getattr(target and target.entity, key)
    if isinstance(thing, QueryableAttribute):
        return _of_attribute(target, thing)
    if not isinstance(thing, Column) or thing.name is None:
        raise _no_column(target, thing)
    if thing.table is not None and not _is_of(target, thing):
        raise _no_column(target, thing, f"is a column of {_place(thing)}")
    return [str(thing.name)]


def _by_text(target: Optional[Target], text: str) -> List[str]:
    """Return the column of this name; else that of the class's attribute of this name."""
    if target is None or target.table is None:
        return [text]
    for column in target.table.columns:
        if column.name == text:
            return [text]
    if text in target.table.c:  # by its key
        return [str(target.table.c[text].name)]
    found = _static(target.entity, text)
    if isinstance(found, QueryableAttribute):
        return _of_attribute(target, found)
    if isinstance(found, (hybrid_property, AssociationProxy)):
        raise _no_column(target, text, _kind(found))
    return [text]  # the database may have more columns than the class: start() looks


def _of_attribute(target: Optional[Target], attribute: Any) -> List[str]:
    """Return the columns of a mapped attribute that the target's table has."""
    # SQLAlchemy 1.4.0 gives a hybrid's attribute no parent.
    mapper = getattr(attribute, "parent", None)
    owner = mapper.class_ if isinstance(mapper, Mapper) else attribute.class_
    declared = _static(owner, attribute.key)
    if isinstance(declared, (hybrid_property, AssociationProxy)):
        raise _no_column(target, attribute, _kind(declared))
    if not isinstance(mapper, Mapper):
        raise _no_column(target, attribute, "is of an alias: give the class's own attribute")
    if not isinstance(declared, QueryableAttribute):
        raise _no_column(target, attribute, _kind(declared))
    prop = _property(target, mapper, attribute)
    columns = getattr(prop, "columns", ())
    if not columns or not all(isinstance(one, Column) for one in columns):
        raise _no_column(target, attribute, _kind(prop))
    here = [str(one.name) for one in columns if _is_of(target, one)]
    if not here:
        raise _no_column(target, attribute, f"is a column of {_place(columns[0])}")
    # A property of several columns is one value in several tables; a composite is not.
    return here if hasattr(prop, "composite_class") else here[:1]


def _property(target: Optional[Target], mapper: Any, attribute: Any) -> Any:
    """Return what an attribute stands for; one of a superclass may have more columns here."""
    entity = None if target is None else target.entity
    if entity is not None and sqlalchemy_inspect(entity).isa(mapper):
        attribute = getattr(entity, attribute.key, attribute)
    try:
        return attribute.property
    except SQLAlchemyError:
        # A relationship asks for all its classes, which need not be there yet.
        return getattr(attribute.comparator, "prop", None)


def _key_in_mixin(target: Optional[Target], thing: Any) -> Optional[str]:
    """Return the attribute as which a class inherits this column of a mixin; else None."""
    entity = None if target is None else target.entity
    for one in () if entity is None else entity.__mro__:
        for key, value in vars(one).items():
            if value is thing:
                return key
    return None


def _is_of(target: Optional[Target], column: Any) -> bool:
    """Tell whether a column is one of the target's table."""
    table = column.table
    if target is None or table is (target and target.table):
        return isinstance(table, Table)
    if not isinstance(table, Table) or table.name.lower() != target.name.lower():
        return False
    return table.schema is None or target.schema is None or table.schema == target.schema


def _static(entity: Any, key: str) -> Any:
    """Return a class's attribute without asking it for a value: a hybrid would compute one."""
    for one in () if entity is None else entity.__mro__:
        if key in vars(one):
            return vars(one)[key]
    return None


def _no_column(target: Optional[Target], thing: Any, why: str = "") -> UsageError:
    table = None if target is None else target.table
    choices = "Give a name, a Column or a mapped attribute"
    if target is not None and table is not None:
        names = ", ".join(str(column.name) for column in table.columns)
        choices = f"{target.key} has {names}"
    return UsageError(f"no column: {_label(thing)}{why and ' ' + why}. {choices}")


def _kind(thing: Any) -> str:
    if isinstance(thing, RelationshipProperty):
        return "is a relationship: its foreign key is a column"
    if isinstance(thing, AssociationProxy):
        return "is an association proxy"
    if isinstance(thing, hybrid_property):
        return "is a hybrid: give its columns, or a function as where="
    return "is computed: give its columns, or a function as where="


def _label(thing: Any) -> str:
    # An attribute by its name: repr() of a hybrid may be a whole query.
    return str(thing) if isinstance(thing, QueryableAttribute) else repr(thing)


def _place(column: Any) -> str:
    return str(getattr(column.table, "fullname", "an alias or a SELECT"))


def _first_twice(names: Iterable[str]) -> Optional[str]:
    seen = set()
    for name in names:
        if name in seen:
            return name
        seen.add(name)
    return None
