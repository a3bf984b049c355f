"""What ``hub.status()`` returns."""

from typing import Any, Dict, List

from .life import STILL_RUNS, Life
from .parts import Parts


class Status:
    """Looks at the parts of a hub and at its threads, and reports what they do now."""

    def __init__(self, parts: Parts, life: Life) -> None:
        self._parts = parts
        self._life = life

    @property
    def state(self) -> str:
        """One of "stopped", "connecting", "listening" and "failed"."""
        source = self._life.source
        if source is None:
            return "stopped"
        if self._threads_ended():
            return "failed"
        return "listening" if source.connected else "connecting"

    def as_dict(self) -> Dict[str, Any]:
        """Return all of it: see ``Hub.status()``."""
        parts, source, dispatcher = self._parts, self._life.source, self._life.dispatcher
        error = None if source is None else source.failure
        return {
            "state": self.state,
            "database": parts.backend.dialect,
            "error": None if error is None else str(error),
            "warnings": self._warnings(),
            "pid": self._life.pid,
            "threads_ended": self._threads_ended(),
            "tables": parts.topics.known(),
            "notifications": sorted(parts.registry.native()),
            "listeners": len(parts.registry.all()),
            "groups": parts.groups.status(),
            "waiting": 0 if dispatcher is None else dispatcher.waiting,
            "queue_size": parts.settings.queue_size,
            **self._counts(),
        }

    def _threads_ended(self) -> List[str]:
        return [thread.name for thread in self._life.threads() if thread.ended]

    def _warnings(self) -> List[str]:
        dispatcher = self._life.dispatcher
        waiting = dispatcher is not None and dispatcher.former is not None
        mistakes = [thread.mistake for thread in self._life.threads()]
        found = self._parts.backend.warnings.all() + [STILL_RUNS] * waiting
        return found + [one for one in mistakes if one]

    def _counts(self) -> Dict[str, int]:
        """Return what plain listeners and groups have done together."""
        found = self._parts.metrics.as_dict()
        for name, number in self._parts.groups.counts().items():
            found[name] += number
        return found
