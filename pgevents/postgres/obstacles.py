"""Who is in the way of the bell: any role can take an advisory lock, whatever its number.

Nobody waits for these locks, so nothing stops. But commits ring that need not,
and a reader looks more often than it must: status() names the session.
"""

import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..warnings import Warnings

LOOK = 3.0  # seconds between two looks at the server's locks, while one cannot be had
SEEN = 3  # looks in a row that must find a session: ours hold a lock in this mode for an instant

#: In share mode all of ours hold them for long; nobody can tell a stranger from these.
_HOLDERS = """
SELECT l.pid, coalesce(a.usename, '?'), l.objid::int8
  FROM pg_locks l LEFT JOIN pg_stat_activity a ON a.pid = l.pid
 WHERE l.locktype = 'advisory' AND l.classid = %s::int4::oid AND l.objid IN (1, 2)
   AND l.objsubid = 2 AND l.mode = 'ExclusiveLock'
   AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
"""

_Holder = Tuple[int, str, int]  # process, role, number of the lock


class Obstacles:
    """Sessions that keep the two locks of a log's bell. The thread that reads uses it."""

    def __init__(self, log: str, warnings: Warnings) -> None:
        self._log = log
        self._warnings = warnings
        self._looked_at: Optional[float] = None
        self._seen: Dict[_Holder, int] = {}

    def met(self, run: Callable[[str, Any], List[Any]], oid: int) -> None:
        """A lock could not be had: ask who holds it, with ``run(sql, values)``, now and then."""
        now = time.monotonic()
        if self._looked_at is None:
            self._looked_at = now
        if now - self._looked_at < LOOK:
            return
        self._looked_at = now
        found = [(pid, role, number) for pid, role, number in run(_HOLDERS, (oid,))]
        self._seen = {holder: self._seen.get(holder, 0) + 1 for holder in found}
        held = [holder for holder, times in self._seen.items() if times >= SEEN]
        self._warnings.set("bell", self._sentence(held[0], oid) if held else None)

    def passed(self) -> None:
        """All locks could be had."""
        if self._looked_at is not None:
            self._looked_at = None
            self._seen = {}
            self._warnings.set("bell", None)

    def _sentence(self, holder: _Holder, oid: int) -> str:
        pid, role, number = holder
        return (
            f"session {pid} of role {role!r} holds or waits for the advisory lock ({oid}, {number})"
            f" of {self._log}: events still arrive, but each commit notifies, and commits queue"
            f" for that. Somebody with the right should end it: SELECT pg_terminate_backend({pid})"
        )
