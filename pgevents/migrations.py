"""For Alembic's autogenerate, which proposes to drop each table that it does not know.

    from pgevents import migrations

    context.configure(…, include_object=migrations.include_object(),
                      include_name=migrations.include_name())

Alembic itself is not needed.
"""

from typing import Any, Callable, Mapping, Optional

from .tables import Tables

Include = Callable[[Any, Optional[str], str, bool, Any], bool]
IncludeName = Callable[[Optional[str], str, Mapping[str, Optional[str]]], bool]

SEQUENCES = "sqlite_sequence"  # SQLite's own, which comes with our log; SQLAlchemy 1.4 shows it


def include_object(also: Optional[Include] = None, schema: str = "pgevents") -> Include:
    """Return what to give Alembic as ``include_object``, so that it lets our tables be.

    ``also`` is your own function for the rest; ``schema`` that of the hub. What your
    own metadata declares, as with ``Tables(…).metadata``, is compared as usual.
    Raises UsageError for a bad ``schema``.
    """
    ours = _Ours(schema)

    def include(
        thing: Any, name: Optional[str], type_: str, reflected: bool, compare_to: Any
    ) -> bool:
        table = thing if type_ == "table" else getattr(thing, "table", None)
        unknown = reflected and compare_to is None
        if unknown and table is not None and ours.has(table.schema, table.name):
            return False
        return True if also is None else also(thing, name, type_, reflected, compare_to)

    return include


def include_name(also: Optional[IncludeName] = None, schema: str = "pgevents") -> IncludeName:
    """Return what to give Alembic as ``include_name``, so that it does not even look at them.

    ``also`` is your own function for the rest; ``schema`` that of the hub. Not for those
    who declare our tables in their own metadata. Raises UsageError for a bad ``schema``.
    """
    ours = _Ours(schema)

    def include(name: Optional[str], type_: str, parent_names: Mapping[str, Optional[str]]) -> bool:
        if type_ == "schema" and name == schema:
            return False
        if type_ == "table" and ours.has(parent_names.get("schema_name"), name):
            return False
        return True if also is None else also(name, type_, parent_names)

    return include


class _Ours:
    """The tables of a log, on whatever database."""

    def __init__(self, schema: str) -> None:
        self._logs = [Tables(dialect, schema) for dialect in ("postgresql", "sqlite")]

    def has(self, schema: Optional[str], name: Optional[str]) -> bool:
        """Tell whether a table is ours, or came with ours."""
        return any(
            (schema, name) == (table.schema, table.name)
            or (table.schema is None and (schema, name) == ("main", table.name))
            for log in self._logs
            for table in log.metadata.tables.values()
        ) or (schema in (None, "main") and name == SEQUENCES)
