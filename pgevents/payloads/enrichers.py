"""What is added to the metadata of each message and stream event: a trace's id, the user."""

from typing import Any, Callable, Dict, List, Mapping, Optional

from ..errors import UsageError

Enricher = Callable[[], Mapping[str, Any]]


class Enrichers:
    """Functions that each return a dict; what a caller gives explicitly comes first."""

    def __init__(self) -> None:
        self._functions: List[Enricher] = []

    @property
    def any(self) -> bool:
        """Whether there is any."""
        return bool(self._functions)

    def add(self, fn: Enricher) -> None:
        """Call a function for each message and append from now on; the same one counts once."""
        if not callable(fn):
            raise UsageError(f"enrich({fn!r}): give a function that returns a dict")
        if fn not in self._functions:
            self._functions.append(fn)

    def enriched(self, given: Optional[Mapping[str, Any]]) -> Dict[str, Any]:
        """Return metadata with what the functions add. Raises UsageError where two differ."""
        if given is not None and not isinstance(given, Mapping):
            raise UsageError(f"metadata={given!r:.60}: give a dict")
        added: Dict[str, Any] = {}
        for fn in self._functions:
            more = fn()
            if not isinstance(more, Mapping):
                raise UsageError(f"{fn!r} has to return a dict, not {more!r:.60}")
            for name, value in more.items():
                if name in added and added[name] != value:
                    raise UsageError(
                        f"two functions of enrich() give {name!r}: {added[name]!r:.40} and"
                        f" {value!r:.40}"
                    )
                added[name] = value
        return {**added, **(given or {})}
