"""Migrations on SQLite: our triggers do not stand in their way, and are back in time.

SQLite refuses to rename or drop a column that a trigger names, and drops the triggers of a table
that Django creates again. So each ALTER TABLE of a schema editor runs within ``hub.altering()``, in
the transaction of its migration. PostgreSQL needs none of that.
"""

import re
from typing import Any, List

from django.db import connections

from .databases import hub

_ALTERS = re.compile(r"\s*ALTER\s+TABLE\b", re.I)


class _Altering:
    """A schema editor of SQLite, whose statements meet no trigger of ours."""

    connection: Any
    collect_sql: bool
    aliases: List[str] = []

    def execute(self, sql: Any, params: Any = ()) -> None:
        run: Any = super().execute  # type: ignore[misc]
        if self._meets_triggers(str(sql)):
            self.connection.ensure_connection()
            with hub(self.connection.alias).altering(self.connection.connection):
                run(sql, params)
        else:
            run(sql, params)

    def _meets_triggers(self, sql: str) -> bool:
        return (
            bool(_ALTERS.match(sql))
            and not self.collect_sql
            and self.connection.alias in self.aliases
            and not self.connection.is_in_memory_db()
        )


def let_migrations_alter(aliases: List[str]) -> None:
    """Give SQLite's connections of these aliases a schema editor that minds our triggers."""
    _Altering.aliases = aliases
    for alias in aliases:
        wrapper: Any = type(connections[alias])
        if wrapper.vendor == "sqlite" and not issubclass(wrapper.SchemaEditorClass, _Altering):
            wrapper.SchemaEditorClass = type(
                "DatabaseSchemaEditor", (_Altering, wrapper.SchemaEditorClass), {}
            )
