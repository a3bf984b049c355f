"""A thread that asks the database what tables look like, while the one that reads goes on reading.

source    rows of a table that is new, or was altered ──▶ lookup ──▶ catalog
  ▲ keeps the socket read                                   │
  └──────────────── wake() ◀── shapes ◀─────────────────────┘
"""

from typing import Callable, List, Optional

from ..threads import Worker
from .intake import Intake


class Lookup(Worker):
    """Looks tables up once, calls ``then()`` and ends.

    ``done`` is set before that, and ``failure`` where it did not succeed.
    """

    def __init__(
        self, name: str, intake: Intake, unknown: List[str], then: Callable[[], None]
    ) -> None:
        super().__init__(name)
        self.done = False
        self.failure: Optional[BaseException] = None
        self._intake = intake
        self._unknown = unknown
        self._then = then

    def run(self) -> None:
        try:
            self._intake.look_up(self._unknown)
        except BaseException as error:  # a hook of the application's Engine may raise anything
            self.failure = error
        self.done = True
        self._then()
