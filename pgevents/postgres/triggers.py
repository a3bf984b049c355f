"""The triggers on PostgreSQL: what each table needs, and the hash by which one is known.

A trigger's definition is remembered, as a hash, in its COMMENT (an idea of
django-pgtrigger's).

A trigger for TRUNCATE is not copied to partitions as those for rows are. So each
partition gets one for each watched table that it belongs to. It writes no event
of the table, whose other rows are still there, but a note: see database/notes.py.
"""

import hashlib
import json
from typing import Any, List

from ..database.relation import Relation
from ..database.spec import Spec
from ..database.there import Note, Rules, Trigger
from .catalog import literal, quoted

_TRANSITION = {
    "insert": "REFERENCING NEW TABLE AS new_rows",
    "update": "REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows",
    "delete": "REFERENCING OLD TABLE AS old_rows",
}


class Triggers(Rules):
    """The triggers of the log in one schema."""

    def __init__(self, schema: str) -> None:
        self.schema = schema

    def triggers(self, relation: Relation, spec: Spec) -> List[Trigger]:
        spec = spec.settled().with_key(relation.key)
        limited = spec.include is not None or bool(spec.exclude)
        columns = {"include": spec.include, "exclude": spec.exclude} if limited else {}
        careful = {"careful": True} if relation.more["risky"] else {}
        new = as_json({**columns, **careful})
        # With the keys alone, an event still says which row it was.
        old = new if spec.old else as_json({"keys": True, **careful})
        return [self._trigger(relation, operation, new, old) for operation in spec.operations]

    def notes(self, relation: Relation, spec: Spec) -> List[Note]:
        if "truncate" not in spec.operations:
            return []
        name = f"{self.schema}_truncate_{hash_of(relation.topic)[:8]}"
        found = []
        for oid, part in relation.more["partitions"].items():
            if part.kind in "rp":
                table = quoted(part.schema, part.name)
                sql = (
                    f"CREATE OR REPLACE TRIGGER {name} AFTER TRUNCATE ON {table} FOR EACH STATEMENT"
                    f" EXECUTE FUNCTION {self.schema}.partition_truncated"
                    f"({literal(relation.topic)})"
                )
                found.append(Note(oid, name, table, sql))
        return found

    def least(self, relation: Relation) -> Relation:
        more = {**relation.more, "by_row": True}
        return Relation(
            relation.schema, relation.name, relation.columns, relation.key, relation.oid, **more
        )

    def _trigger(self, relation: Relation, operation: str, new: str, old: str) -> Trigger:
        name = f"{self.schema}_{operation}"
        by_row = bool(relation.more["by_row"]) and operation != "truncate"
        if operation == "truncate":
            tail = f"FOR EACH STATEMENT EXECUTE FUNCTION {self.schema}.capture_truncate()"
        elif by_row:
            # Partitions get copies of it, under its name, beside their own.
            name += "_" + hash_of(relation.topic)[:8]
            arguments = ", ".join(literal(text) for text in (new, old, relation.topic))
            tail = f"FOR EACH ROW EXECUTE FUNCTION {self.schema}.capture_row({arguments})"
        else:
            arguments = "" if new == old == "{}" else f"{literal(new)}, {literal(old)}"
            tail = (
                f"{_TRANSITION[operation]} FOR EACH STATEMENT"
                f" EXECUTE FUNCTION {self.schema}.capture_{operation}({arguments})"
            )
        table = quoted(relation.schema, relation.name)
        sql = f"CREATE OR REPLACE TRIGGER {name} AFTER {operation.upper()} ON {table} {tail}"
        return Trigger(name, sql, f"pgevents {hash_of(sql)}")


def comment_sql(relation: Relation, trigger: Trigger) -> str:
    """Return SQL that remembers a trigger's definition."""
    table = quoted(relation.schema, relation.name)
    return f"COMMENT ON TRIGGER {trigger.name} ON {table} IS '{trigger.mark}'"


def as_json(value: Any) -> str:
    """Return JSON with letters as they are: not every database's encoding can read an escape."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False)


def hash_of(text: str) -> str:
    """Return what tells a text from others."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]
