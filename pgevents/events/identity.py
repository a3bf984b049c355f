"""Which object of a mapped class a row of an event is."""

from typing import Any, Callable, Iterator, List, Mapping, Set, Tuple

from sqlalchemy import Column
from sqlalchemy import inspect as sqlalchemy_inspect
from sqlalchemy.orm import Mapper
from sqlalchemy.sql import operators, visitors
from sqlalchemy.types import TypeDecorator

from ..errors import UsageError


def mapper_of(entity: Any) -> Any:
    """Return the mapper of a mapped class. Raises UsageError for anything else."""
    mapper = sqlalchemy_inspect(entity, raiseerr=False) if isinstance(entity, type) else None
    if not isinstance(mapper, Mapper):
        raise UsageError(f"cannot load {entity!r}: give a mapped class")
    return mapper


def is_mapped(entity: Any) -> bool:
    """Tell whether this is a mapped class."""
    return isinstance(entity, type) and isinstance(
        sqlalchemy_inspect(entity, raiseerr=False), Mapper
    )


def identity(
    mapper: Any,
    schema: Any,
    table: str,
    row: Mapping[str, Any],
    read: Callable[[Any], Any],
    bind: Callable[[], Any],
) -> Tuple[Any, ...]:
    """Return the primary key by which the mapper knows a table's row.

    The mapper has these columns and in which order: the database's key may have
    another order, other columns, or not exist. ``read(column)`` gives the row's value,
    ``bind()`` the Engine, which may translate schemas.
    Raises UsageError where the class is not mapped to the table, or a column is not in the row.
    """
    for one in mapper.self_and_descendants:  # a subclass may have a table of its own
        here = [known for known in one.tables if _is(known, schema, table, bind)]
        if here:
            return tuple(_value(one, column, here, row, read) for column in one.primary_key)
    tables = ", ".join(sorted(known.fullname for known in mapper.tables)) or "no table"
    raise UsageError(
        f"{mapper.class_.__name__} is mapped to {tables}, and the event is of"
        f" {schema}.{table}: give the class of that table"
    )


def as_declared(value: Any, kind: Any, dialect: Any) -> Any:
    """Return what the ORM would give for a value that was read without the type it declares."""
    if value is None:
        return None
    if not isinstance(kind, TypeDecorator):
        return value if _fits(value, kind) else _processed(value, kind, dialect)
    if type(kind).result_processor is not TypeDecorator.result_processor:
        return _processed(value, kind, dialect)
    inner = as_declared(value, kind.load_dialect_impl(dialect), dialect)
    if type(kind).process_result_value is TypeDecorator.process_result_value:
        return inner
    return kind.process_result_value(inner, dialect)


def _value(
    mapper: Any,
    column: Any,
    tables: List[Any],
    row: Mapping[str, Any],
    read: Callable[[Any], Any],
) -> Any:
    for one in _same(mapper, column):
        if one.table in tables and one.name in row:
            return read(one)
    raise UsageError(
        f"{mapper.class_.__name__} is loaded by {column}, which the event does not have: it has"
        f" {', '.join(row)}"
    )


def _same(mapper: Any, column: Any) -> List[Any]:
    """Return the columns that joined inheritance equates with this one, and itself."""
    found = list(_real(column))
    pairs = list(_equated(mapper))
    for known in found:  # it grows meanwhile
        for left, right in pairs:
            if left is known and right not in found:
                found.append(right)
    return found


def _real(column: Any) -> Set[Any]:
    # Of a class that is mapped to a SELECT: the tables' columns behind it.
    return {one for one in column.base_columns if isinstance(one, Column)}


def _equated(mapper: Any) -> Iterator[Tuple[Any, Any]]:
    conditions = (one.inherit_condition for one in mapper.iterate_to_root())
    for condition in conditions:
        part: Any
        for part in () if condition is None else visitors.iterate(condition):
            if getattr(part, "operator", None) is operators.eq:
                yield part.left, part.right
                yield part.right, part.left


def _is(table: Any, schema: Any, name: str, bind: Callable[[], Any]) -> bool:
    """Tell whether a Table means the event's table; without a schema, the database chose it."""
    if schema == "main" and str(table.name).lower() == name.lower():
        return True  # SQLite takes Orders for orders
    if table.name != name:
        return False
    if table.schema in (None, schema):
        return True
    translated = bind().get_execution_options().get("schema_translate_map") or {}
    return bool(translated.get(table.schema) == schema)


def _fits(value: Any, kind: Any) -> bool:
    try:
        return isinstance(value, kind.python_type)
    except NotImplementedError:
        return False


def _processed(value: Any, kind: Any, dialect: Any) -> Any:
    processor = kind.dialect_impl(dialect).result_processor(dialect, None)
    return value if processor is None else processor(value)
