"""How often and how soon something is tried again."""

import random
from itertools import islice
from typing import Iterator

from . import checks


class Backoff:
    """Waiting times that grow, with jitter, so that many clients do not come back together.

    ``first`` and ``longest`` are seconds. Iterating gives, for ever, a random
    time between half and the whole of a value that doubles up to ``longest``
    ("equal jitter", M. Brooker, Exponential Backoff And Jitter, 2015).
    """

    def __init__(self, first: float = 0.1, longest: float = 15.0) -> None:
        self.first = first
        self.longest = longest

    def __iter__(self) -> Iterator[float]:
        whole = self.first
        while True:
            yield whole * random.uniform(0.5, 1.0)
            whole = min(whole * 2, self.longest)

    @property
    def most(self) -> float:
        """The longest time there can be."""
        return max(self.first, self.longest)

    def wait(self, attempt: int) -> float:
        """Return a time to wait after this attempt, counted from 1."""
        return next(islice(self, attempt - 1, None))


class Retry:
    """How often a listener that raises is called for one event, and how soon.

    ``attempts`` counts the first call too. The waits between are a
    ``Backoff(first, longest)``, in seconds. Raises UsageError.
    """

    def __init__(self, attempts: int = 3, first: float = 0.02, longest: float = 1.0) -> None:
        self.attempts = checks.whole("attempts", attempts)
        self.backoff = Backoff(checks.seconds("first", first), checks.seconds("longest", longest))
