"""What ``load()`` returns: a stream's events, read by the page while they are iterated over."""

from typing import Any, Callable, Iterator, List

from .stored import Stored


class History:
    """The events of one stream behind one version and up to another, in their order.

    ``state`` is that of the snapshot behind which they begin, or None. ``version`` is that of
    the stream: give it to ``append()`` as ``expected_version``. It counts what was committed when
    the stream was loaded; what is appended later is not among the events. May be iterated over
    again, and then asks again.
    """

    def __init__(
        self,
        pages: Callable[[int, int], List[Stored]],
        after: int,
        version: int,
        state: Any = None,
    ) -> None:
        self._pages = pages
        self._after = after
        self.version = version
        self.state = state

    def __iter__(self) -> Iterator[Stored]:
        after = self._after
        while after < self.version:
            page = self._pages(after, self.version)
            if not page:
                return  # it was deleted, or begins later
            yield from page
            after = page[-1].version

    def __repr__(self) -> str:
        return f"<History {self._after + 1}…{self.version}>"
