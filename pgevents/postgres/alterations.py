"""Noticing, within seconds, that a captured table was created again, swapped or altered.

PostgreSQL has nothing like SQLite's PRAGMA schema_version. One statement asks
the catalog for what our capture depends on: which table bears each watched
name, whether it is a partition or a child of another, which partitions it has
itself, and which triggers of ours there are on all of them; who owns the log
and may use it; and whether our functions were changed. Every step of it is
on an index, whatever else the catalog holds: 0.06 ms for one table with 12,000
triggers of foreign keys, 2 ms for 300 tables.
"""

import time
from typing import Any, Callable, List, Optional

from ..database.relation import Relation
from ..tables import Tables
from .rights import HELPERS, TRIGGERS

LOOK = 2.0  # seconds between two looks, at least; an idle reader looks with its probe

#: The names of before, too: who installs meanwhile forgets a table that is gone,
#: and it may be about to be created again. A topic is a schema and a name, and both
#: may contain dots. OFFSET 0 keeps the planner from any other way than the indexes.
_LOOK = r"""
SELECT coalesce(array_agg(w.relation), '{{}}'),
       hashtextextended(concat((
           SELECT concat(relowner, relacl, (
                      SELECT string_agg(concat(oid, ' ', xmin), ' ' ORDER BY oid) FROM pg_proc
                       WHERE proname = ANY ('{{{functions}}}') AND pronamespace = relnamespace))
             FROM pg_class WHERE oid = '{log}'::regclass), ' ',
           string_agg(concat(w.relation, ' ', f.mark), ' ' ORDER BY w.relation)) COLLATE "C", 0)
  FROM (SELECT relation FROM {watch} UNION SELECT unnest($1)) w
  LEFT JOIN LATERAL (
       SELECT string_agg(concat(c.oid, ' ', c.kin, ' ', t.mark), ' ') AS mark
         FROM (SELECT string_to_array(w.relation, '.') AS words OFFSET 0) p,
              generate_series(1, cardinality(p.words) - 1) k,
              LATERAL (SELECT c.oid, concat(c.relkind, EXISTS (
                              SELECT FROM pg_inherits WHERE inhrelid = c.oid)) AS kin
                         FROM pg_class c
                        WHERE relname = array_to_string(p.words[k + 1:], '.')::name
                          AND relnamespace = (
                              SELECT n.oid FROM pg_namespace n
                               WHERE nspname = array_to_string(p.words[:k], '.')::name)
                       OFFSET 0) c,
              LATERAL (WITH RECURSIVE tree (oid) AS (
                           SELECT c.oid
                            UNION
                           SELECT inhrelid FROM tree JOIN pg_inherits ON inhparent = tree.oid
                            WHERE c.kin LIKE 'p%')
                       SELECT string_agg(concat(tree.oid, ' ', r.mark), ' ' ORDER BY tree.oid)
                              AS mark
                         FROM tree, LATERAL (
                              SELECT string_agg(concat(oid, ' ', tgname, tgenabled), ' '
                                                ORDER BY tgname) AS mark
                                FROM pg_trigger
                               WHERE tgrelid = tree.oid AND tgname LIKE '{prefix}\_%') r) t
       ) f ON true
"""


def missed_between(former: Relation, now: Relation) -> List[str]:
    """Say what was not captured while a table became another: a sentence for each reason."""
    if former.oid != now.oid:
        return [f"{now.topic} was created again"]
    missed = []
    if now.more["by_row"] and not former.more["by_row"]:
        missed.append(
            f"{now.topic} became a partition or an inheritance child: what was written through"
            " its parent before its triggers were changed is not reported"
        )
    before, after = former.more["partitions"], now.more["partitions"]
    missed += [
        f"the partition {before[oid]} of {now.topic} was detached or dropped: its rows are gone"
        " without an event for each"
        for oid in sorted(before.keys() - after.keys())
    ]
    missed += [
        f"{after[oid]} was attached to {now.topic}: the rows that it had are there without an"
        " event for each"
        for oid in sorted(after.keys() - before.keys())
        if after[oid].attached
    ]
    return missed


class Alterations:
    """What became of the captured tables. The thread that reads the log uses it."""

    def __init__(self, tables: Tables) -> None:
        look = _LOOK.format(
            watch=tables.name("watch"),
            log=tables.name("log"),
            functions=",".join(TRIGGERS + HELPERS),
            prefix=tables.schema.replace("_", r"\_"),
        )
        self.prepare = "PREPARE pgevents_look (text[]) AS " + look
        self._topics: List[str] = []
        self._mark: Optional[int] = None
        self._looked_at: Optional[float] = None
        self._altered = False

    def look(self, run: Callable[[str, Any], List[Any]]) -> None:
        """Ask the catalog, with ``run(sql, values)``, unless it was asked a moment ago."""
        now = time.monotonic()
        if self._looked_at is not None and now - self._looked_at < LOOK:
            return
        topics, mark = run("EXECUTE pgevents_look (%s)", (self._topics,))[0]
        if self._looked_at is not None and mark != self._mark:
            self._altered = True
        self._looked_at, self._topics, self._mark = now, topics, mark

    def noticed(self) -> bool:
        """Tell, once, that something is not as it was."""
        altered, self._altered = self._altered, False
        return altered
