"""Models as what is listened to: their tables, their columns, their instances."""

from typing import Any, List, Optional, Tuple

from django.db import models, router
from sqlalchemy import Column, MetaData, Table

from ...errors import UsageError
from ...listening.target import Model, Target
from .fields import FieldType


def target_of(thing: Any, using: Optional[str] = None) -> Optional[Target]:
    """Return the table of a model, or of ``Order.tags``; None for anything else.

    ``using`` is the alias of its database, where a router is not to choose it. Of a model that
    inherits from another with a table of its own, the table has the model's own fields alone.
    Raises UsageError for a model without a table.
    """
    model: Any = getattr(thing, "through", thing)
    if not _inherits(model, models.Model):
        return None
    if model._meta.abstract or model._meta.swapped:
        why = "abstract" if model._meta.abstract else f"swapped for {model._meta.swapped}"
        raise UsageError(f"cannot listen to {model.__name__}: it is {why}, and has no table")
    alias = using or router.db_for_write(model)
    schema, name = _place(model._meta.db_table)
    columns = [
        Column(field.column, FieldType(field, alias), primary_key=field.primary_key)
        for field in _fields(model)
    ]
    table = Table(name, MetaData(), *columns, schema=schema)
    return Target(schema, name, table, model=DjangoModel(model, alias))


class DjangoModel(Model):
    """A model, as pgevents asks it for columns and instances."""

    def __init__(self, model: Any, alias: str) -> None:
        self.model = model
        self.alias = alias

    def column(self, thing: Any) -> Any:
        field = getattr(thing, "field", thing)
        if isinstance(field, str):
            return self._by_name(field)
        if not isinstance(field, models.Field):
            return thing
        if field not in _fields(self.model):
            raise UsageError(f"no column: {field}. {self._choices()}")
        return field.column

    def _by_name(self, name: str) -> str:
        fields = _fields(self.model)
        if any(field.column == name for field in fields):
            return name
        for field in fields:
            if name in (field.name, field.attname) or (name == "pk" and field.primary_key):
                return str(field.column)
        if any(name == field.name for field in self.model._meta.get_fields()):
            raise UsageError(f"no column: {name!r} is no field of that table. {self._choices()}")
        return name  # the table may have more columns than the model: start() looks

    def _choices(self) -> str:
        names = ", ".join(field.name for field in _fields(self.model))
        return f"{self.model.__name__} has {names}"

    def value(self, column: str, value: Any) -> Any:
        if not isinstance(value, models.Model):
            return value
        for field in _fields(self.model):
            if field.column == column and field.is_relation:
                return getattr(value, field.target_field.attname)
        return value

    def load(self, event: Any, using: Any, entity: Any) -> Any:
        model: Any = entity or self.model
        if not _inherits(model, self.model._meta.concrete_model):
            raise UsageError(
                f"cannot load {model!r}: the event is of {self.model.__name__}, give that or a"
                " model that inherits from it"
            )
        row = event.new if event.new is not None else event.old
        if row is None:
            raise UsageError(f"there is no row to load: the event is a {event.operation}")
        lacking = [field.column for field in _key(self.model) if field.column not in row]
        if lacking:
            raise UsageError(
                f"{model.__name__} is loaded by {', '.join(lacking)}, which the event does not"
                f" have: it has {', '.join(row)}"
            )
        key = [row[field.column] for field in _key(self.model)]
        found = model._base_manager.using(using or self.alias)
        return found.filter(pk=key[0] if len(key) == 1 else tuple(key)).first()


def _inherits(thing: Any, model: Any) -> bool:
    return isinstance(thing, type) and issubclass(thing, model)


def _fields(model: Any) -> List[Any]:
    """Return the fields that are columns of the model's own table."""
    return list(model._meta.concrete_model._meta.local_concrete_fields)


def _key(model: Any) -> List[Any]:
    """Return the fields of the primary key: several since Django 5.2."""
    meta = model._meta.concrete_model._meta
    return list(getattr(meta, "pk_fields", [meta.pk]))


def _place(db_table: str) -> Tuple[Optional[str], str]:
    """Return schema and name; a schema stands in ``db_table`` as '"sales"."orders"'."""
    schema, dot, name = db_table.strip('"').partition('"."')
    return (schema, name) if dot else (None, schema)
