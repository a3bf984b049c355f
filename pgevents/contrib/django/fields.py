"""Values as Django's fields give them, from what the database's driver gives."""

import json
from typing import Any, Callable, List, Optional

from django.conf import settings
from django.db import connections
from django.db.models import DateTimeField, JSONField
from django.utils import timezone
from sqlalchemy.types import UserDefinedType

#: Turns one value into another.
Step = Callable[[Any], Any]


class FieldType(UserDefinedType):  # type: ignore[type-arg]
    """A column's type, of which Django's field and Django's backend make the values."""

    cache_ok = False

    def __init__(self, field: Any, alias: str) -> None:
        # By these names SQLAlchemy copies a type.
        self.field = field
        self.alias = alias

    def get_col_spec(self, **_: Any) -> str:
        """Return a type for SQL that is never run."""
        return "TEXT"

    def result_processor(self, dialect: Any, coltype: Any) -> Optional[Step]:
        """Return what makes Django's value of the driver's; None where they are the same."""
        # Not of a thread's connection but of its class and its settings: nothing is asked here.
        steps = steps_of(self.field, connections[self.alias])
        if not steps:
            return None

        def read(value: Any) -> Any:
            for step in steps:
                value = step(value)
            return value

        return read


def steps_of(field: Any, connection: Any) -> List[Step]:
    """Return what Django does, one after the other, with a value that it reads."""
    column = field.get_col(field.model._meta.db_table)
    first = None
    if connection.vendor == "postgresql":
        if _is_plain_json(column.output_field):
            return []
        first = _as_from_the_driver(column.output_field)
    converters = connection.ops.get_db_converters(column) + column.get_db_converters(connection)
    steps = [_bound(convert, column, connection) for convert in converters]
    return steps if first is None else [first, *steps]


def _bound(convert: Any, column: Any, connection: Any) -> Step:
    return lambda value: convert(value, column, connection)


def _is_plain_json(field: Any) -> bool:
    """Tell whether a field's value is what the document says, which has been read already."""
    return (
        isinstance(field, JSONField)
        and field.decoder is None
        and type(field).from_db_value is JSONField.from_db_value
    )


def _as_from_the_driver(field: Any) -> Optional[Step]:
    """Return what gives the value as Django's connections do, which differ from psycopg2's."""
    if isinstance(field, JSONField):
        return json.dumps  # they leave documents as texts
    if isinstance(field, DateTimeField) and not settings.USE_TZ:
        return _on_the_wall
    if hasattr(field, "range_type"):
        return _range(field.range_type, _as_from_the_driver(field.base_field))
    if hasattr(field, "base_field"):  # an array
        return _each(_as_from_the_driver(field.base_field))
    return None


def _on_the_wall(value: Any) -> Any:
    """Return a time without its zone, in that of the setting TIME_ZONE."""
    if value.tzinfo is None:
        return value
    return timezone.make_naive(value, timezone.get_default_timezone())


def _range(kind: Any, step: Optional[Step]) -> Step:
    """Return what makes the range of the driver that Django uses of psycopg2's."""

    def bound(value: Any) -> Any:
        return value if value is None or step is None else step(value)

    def make(value: Any) -> Any:
        if value.isempty:
            return kind(empty=True)
        signs = ("[" if value.lower_inc else "(") + ("]" if value.upper_inc else ")")
        return kind(bound(value.lower), bound(value.upper), signs)

    return make


def _each(step: Optional[Step]) -> Optional[Step]:
    if step is None:
        return None

    def read(value: Any) -> Any:
        if isinstance(value, list):
            return [read(item) for item in value]
        return None if value is None else step(value)

    return read
