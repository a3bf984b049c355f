"""The triggers on SQLite: what their text says, and what the text of one that is there captures.

Each new connection of the application parses all triggers of the file, so
those of a table are short: they hand the row over to a view, whose own trigger
writes it to the log. Tables of about the same width share one.

    orders            AFTER INSERT:  INSERT INTO pgevents_capture_4 VALUES (
                                         'main.orders', 'insert', 2, 2,
                                         'id', NULL, NEW."id", 'item', NULL, NEW."item", NULL, …)
    pgevents_capture_4  INSTEAD OF:  INSERT INTO pgevents_log …

A table of more than WIDEST columns writes to the log itself.
"""

import re
from typing import Dict, List, NamedTuple, Set, Tuple

from ..database.relation import Relation
from ..database.spec import Spec
from ..database.there import Found, Rules, Trigger, View
from ..tables import VERSION, Tables
from .catalog import quoted
from .values import name_literal, size_of, tagged, terms

WIDEST = 128  # columns; a view of SQLite's has at most 2,000, and a field takes three of them
CONTEXT = 16_384  # characters of a context that is longer than 65,536 bytes: no more than these
CUT = "... (cut)"  # how such a one ends

OPERATIONS = {"insert": ("NULL", "NEW"), "update": ("OLD", "NEW"), "delete": ("OLD", "NULL")}

#: What a trigger of ours says of its release. Those of 0.1 say nothing.
MARK = f"/* pgevents {VERSION} */"

_FIELDS = ("k", "o", "n")  # name, old value, new value


class Field(NamedTuple):
    """SQL for what a trigger gives of a column."""

    name: str
    old: str
    new: str


class Triggers(Rules):
    """The text of all triggers of one log; a trigger's text is its mark."""

    def __init__(self, tables: Tables) -> None:
        self._schema = tables.schema
        self._log = tables.name("log")
        self._settings = tables.name("settings")
        self._context = context_sql(tables)

    def name(self, table: str, operation: str) -> str:
        """Return what the trigger of a table for an operation is called."""
        return f"{self._schema}_{operation}_{table}"

    def triggers(self, relation: Relation, spec: Spec) -> List[Trigger]:
        spec = spec.settled().with_key(relation.key)
        found = []
        for operation in OPERATIONS:
            if operation in spec.operations:
                text = self._trigger(relation, spec, operation)
                found.append(Trigger(self.name(relation.name, operation), text, text))
        return found

    def views(self, relation: Relation, spec: Spec) -> List[View]:
        spec = spec.settled().with_key(relation.key)
        names = [
            self._names(relation, spec, operation)[0]
            for operation in spec.operations
            if operation in OPERATIONS
        ]
        widths = {_width(len(each)) for each in names if len(each) <= WIDEST}
        return [View(self._view(width), self._shared(width)) for width in sorted(widths)]

    def keeps(self, found: Found, wanted: Trigger) -> bool:
        # A newer pgevents keeps its own; we must not undo it.
        return found.mark == wanted.mark or self.is_newer(found.mark or "")

    def former_serves(self, relation: Relation, spec: Spec, found: Dict[str, Found]) -> bool:
        texts = {name: trigger.mark or "" for name, trigger in found.items()}
        return any(map(self.is_former, texts.values())) and all(
            name in texts and not self._lacking(texts[name], relation, spec, operation)
            for operation in spec.operations
            if operation in OPERATIONS
            for name in (self.name(relation.name, operation),)
        )

    def lacking(self, relation: Relation, spec: Spec, found: Dict[str, Found]) -> Set[str]:
        return {
            column
            for operation in spec.operations
            for trigger in (found.get(self.name(relation.name, operation)),)
            if trigger is not None
            for column in self._lacking(trigger.mark or "", relation, spec, operation)
        }

    def writes_to(self, found: Found) -> List[str]:
        return self.views_in(found.mark or "")

    def is_on(self, table: str, name: str, text: str) -> bool:
        """Tell whether a trigger of a table is one of those that capture it."""
        return self.is_ours(text) or name in [self.name(table, one) for one in OPERATIONS]

    def is_view(self, name: str) -> bool:
        """Tell whether a view of this name is ours."""
        return re.fullmatch(re.escape(f"{self._schema}_capture_") + "[0-9]+", name) is not None

    def views_in(self, text: str) -> List[str]:
        """Return the views that a trigger's definition writes to."""
        return re.findall(rf"INSERT INTO ({re.escape(self._schema)}_capture_[0-9]+) ", text)

    def is_ours(self, text: str) -> bool:
        """Tell whether the definition of a table's trigger is ours, of any release."""
        return (
            self.is_former(text)
            or "/* pgevents " in text
            and (
                f"INSERT INTO {self._schema}_capture_" in text
                or f"INSERT INTO {self._log}(" in text
            )
        )

    def is_former(self, text: str) -> bool:
        """Tell whether it is of release 0.1."""
        return f" INSERT INTO {self._log} (topic, operation, old, new, context) VALUES" in text

    def is_newer(self, text: str) -> bool:
        """Tell whether it is of a later release, which would not have us replace it."""
        mark = re.search(r"/\* pgevents ([0-9]+) \*/", text)
        return mark is not None and int(mark.group(1)) > VERSION

    def _lacking(self, text: str, relation: Relation, spec: Spec, operation: str) -> List[str]:
        """Return the columns that a trigger's definition does not capture, and a spec wants."""
        spec = spec.settled().with_key(relation.key)
        names, _ = self._names(relation, spec, operation)
        if self.is_former(text):
            row = "OLD" if operation == "delete" else "NEW"
            ways = {
                name: f"'{name_literal(name)}', CASE typeof({row}.{quoted(name)})" for name in names
            }
        else:
            ways = {name: ",".join(_field(name, operation)) for name in names}
        return [name for name, way in ways.items() if way not in text]

    def _trigger(self, relation: Relation, spec: Spec, operation: str) -> str:
        names, kept = self._names(relation, spec, operation)
        fields = [_field(name, operation) for name in names]
        count = 0 if operation == "delete" else len(names)
        head = [f"'{name_literal(relation.topic)}'", f"'{operation}'", str(kept), str(count)]
        width = _width(len(names))
        if len(names) > WIDEST:
            step = self._record(fields, head)
        else:
            given = [*head, *map(",".join, fields), *["NULL,NULL,NULL"] * (width - len(names))]
            step = f"INSERT INTO {self._view(width)} VALUES ({','.join(given)})"
        off = f" WHEN {self._not_off()}" if len(names) > WIDEST else ""
        name = quoted(self.name(relation.name, operation))
        return (
            f"CREATE TRIGGER {name} AFTER {operation.upper()} ON"
            f" {quoted(relation.name)}{off} BEGIN {MARK} {step}; END"
        )

    def _names(self, relation: Relation, spec: Spec, operation: str) -> Tuple[List[str], int]:
        """Return the columns in question, and how many of them an old row keeps."""
        key = list(relation.key)
        if operation == "delete" and not spec.old:
            return key, len(key)
        names = spec.of(relation.columns)
        if operation == "insert":
            return names, 0
        if operation == "update" and not spec.old:
            return key + [name for name in names if name not in key], len(key)
        return names, len(names)

    def _view(self, width: int) -> str:
        return f"{self._schema}_capture_{width}"

    def _shared(self, width: int) -> Tuple[str, str]:
        """Return a view to write to, and the trigger that writes to the log instead."""
        name = self._view(width)
        heads = ["topic", "operation", "kept", "count"]
        columns = heads + [f"{field}{i}" for i in range(width) for field in _FIELDS]
        fields = [Field(*(f"NEW.{field}{i}" for field in _FIELDS)) for i in range(width)]
        # Columns without a type change no value, and compare it as it is.
        return (
            f"CREATE VIEW {name} AS SELECT {','.join(f'NULL AS {c}' for c in columns)} WHERE 0",
            f"CREATE TRIGGER {name} INSTEAD OF INSERT ON {name} WHEN {self._not_off()} BEGIN"
            f" {MARK} {self._record(fields, [f'NEW.{head}' for head in heads])}; END",
        )

    def _record(self, fields: List[Field], head: List[str]) -> str:
        """Return the statement that writes a row of the log."""
        topic, operation, kept, count = head
        size = {row: size_of([getattr(field, row) for field in fields]) for row in ("old", "new")}
        # 1 and 1.0 are equal, and not the same; nor are 'a' and 'A', whatever the collation. The
        # JSON tells them apart, but for what it leaves out; and an old row may keep its key alone.
        note = "CASE WHEN +o IS +n COLLATE BINARY THEN '' ELSE ' ' END"
        differs = "+o IS NOT +n COLLATE BINARY OR typeof(o) <> typeof(n)"
        old = f"json_group_object(k, {tagged('o', size['old'], len(fields))})"
        new = f"json_group_object(k, {tagged('n', size['new'], len(fields), note)})"
        # The LIMIT keeps SQLite from putting the terms of the subquery in place of a and b: it
        # would compile, and write, each row's JSON twice.
        # No space before the bracket: 0.1 would take a trigger that looks like its own.
        return (
            f"INSERT INTO {self._log}(topic, operation, old, new, context)"
            f" SELECT {topic}, {operation}, a, b, {self._context} FROM (SELECT"
            f" CASE {operation} WHEN 'insert' THEN NULL ELSE"
            f" {old} FILTER (WHERE i < {kept}) END AS a,"
            f" CASE {operation} WHEN 'delete' THEN NULL ELSE"
            f" {new} FILTER (WHERE i < {count}) END AS b,"
            f" max(CASE WHEN {kept} < {count} AND {operation} = 'update' THEN {differs} END) AS d"
            f" FROM ({terms(_FIELDS, fields)}) LIMIT 1)"
            f" WHERE {operation} <> 'update' OR d OR {kept} = {count} AND a IS NOT b"
        )

    def _not_off(self) -> str:
        return f"(SELECT value FROM {self._settings} WHERE name = 'capture') IS NOT 'off'"


def context_sql(tables: Tables) -> str:
    """Return SQL for the context of what is written now, cut where it is too long."""
    return (
        f"(SELECT CASE WHEN length(CAST(value AS BLOB)) > {4 * CONTEXT}"
        f" THEN substr(value, 1, {CONTEXT}) || '{CUT}' ELSE value END"
        f" FROM {tables.name('settings')} WHERE name = 'context')"
    )


def _field(name: str, operation: str) -> Field:
    """Return what a trigger gives of a column."""
    old, new = (row if row == "NULL" else f"{row}.{quoted(name)}" for row in OPERATIONS[operation])
    return Field(f"'{name_literal(name)}'", old, new)


def _width(count: int) -> int:
    """Return the width of the view for so many columns: a few widths for all tables."""
    step = 4 if count <= 32 else 16
    return max(step, -(-count // step) * step)
