"""Noting that a partition was truncated, which the triggers of its table do not see.

A trigger for TRUNCATE is not copied to partitions as those for rows are. So each
partition gets one for each watched table that it belongs to. It writes no event
of the table, whose other rows are still there, but a note: see database/notes.py.
"""

from typing import Any, Dict, List, Set, Tuple

from ..database.relation import Relation
from ..database.spec import Spec
from .catalog import quoted

#: A trigger on a partition: the partition's oid, the trigger's name.
Trigger = Tuple[int, str]


class Truncations:
    """The triggers on partitions: what each watched table needs, and what is there."""

    def __init__(self, schema: str) -> None:
        self.schema = schema

    def wanted(self, relation: Relation, spec: Spec, name: str, topic: str) -> Dict[Trigger, str]:
        """Return the definitions, if truncation is captured at all; ``topic`` is a literal."""
        if "truncate" not in spec.operations:
            return {}
        return {
            (oid, name): f"CREATE OR REPLACE TRIGGER {name} AFTER TRUNCATE ON"
            f" {quoted(part.schema, part.name)} FOR EACH STATEMENT"
            f" EXECUTE FUNCTION {self.schema}.partition_truncated({topic})"
            for oid, part in relation.more["partitions"].items()
            if part.kind in "rp"
        }

    def there(self, cursor: Any, oids: List[int]) -> Set[Trigger]:
        """Return the triggers on these partitions that fire."""
        if not oids:
            return set()
        cursor.execute(
            "SELECT tgrelid::int8, tgname FROM pg_trigger JOIN pg_proc p ON p.oid = tgfoid"
            " WHERE tgrelid = ANY (%s::oid[]) AND tgenabled IN ('O', 'A')"
            " AND pronamespace = to_regnamespace(%s) AND proname = 'partition_truncated'",
            (oids, self.schema),
        )
        return {(oid, name) for oid, name in cursor.fetchall()}

    def all(self, cursor: Any) -> Dict[Trigger, str]:
        """Return all such triggers, with their tables as SQL has to name them."""
        cursor.execute(
            "SELECT tgrelid::int8, tgname, nspname, relname FROM pg_trigger"
            " JOIN pg_proc p ON p.oid = tgfoid JOIN pg_class c ON c.oid = tgrelid"
            " JOIN pg_namespace n ON n.oid = relnamespace"
            " WHERE pronamespace = to_regnamespace(%s) AND proname = 'partition_truncated'",
            (self.schema,),
        )
        return {(oid, name): quoted(*table) for oid, name, *table in cursor.fetchall()}
