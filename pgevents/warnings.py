"""What works, but not as it should: sentences for ``hub.status()`` and the log."""

import logging
from typing import Dict, List, Optional

logger = logging.getLogger("pgevents")


class Warnings:
    """The warnings of one hub. Any thread may set a warning, and remove it when all is well.

        self.warnings.set("housekeeping", "old rows stay in pgevents.log: …")
        self.warnings.set("housekeeping", None)   # it works again

    A warning that was not there before is logged, once.
    """

    def __init__(self) -> None:
        self._sentences: Dict[str, str] = {}

    def set(self, key: str, sentence: Optional[str]) -> None:
        """Set the warning of this key, or with None remove it."""
        if sentence is None:
            self._sentences.pop(key, None)
            return
        new = key not in self._sentences
        self._sentences[key] = sentence
        if new:
            logger.warning("%s", sentence)

    def all(self) -> List[str]:
        """Return the sentences, oldest first."""
        return list(self._sentences.values())

    def count(self, beginning: str) -> int:
        """Return how many warnings have keys with this beginning."""
        return sum(key.startswith(beginning) for key in list(self._sentences))

    def clear(self) -> None:
        """Remove all: the hub has stopped, or this is a forked child."""
        self._sentences.clear()
