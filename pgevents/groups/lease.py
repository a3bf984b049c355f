"""A lease: what one process has taken of a group, while its listeners are called.

The lease as a whole:

                  ┌───settle(): rows are left─────┐
                  ▼                               │
    a claim ──▶ held ──────────────────────────▶ settled
                  │                               │
                  │                               └─nothing is left, or release─▶ over
                  └─renew(), settle(): it is somebody else's─▶ lost

One of its rows:

             ┌─done()───▶ done ────settle(), renew()─▶ the lease names it no more
    open ────┤
             └─failed()─▶ failed ──settle()─▶ waits for its time, or is a dead letter

Which rows are done does not depend on their order. Of an ordered group only what fails has one:
it is written down when nothing before it is open, and what comes after it waits with it.
"""

import threading
import time
from typing import Callable, Dict, Iterable, List, Optional, Set

from sqlalchemy.engine import Connection

from ..errors import Unavailable
from ..events.logrow import POSITION, LogRow
from .failure import Failure
from .ledger import Ledger
from .lost import Lost
from .options import Options
from .settlement import Settlement
from .work import Work

RENEWAL = 0.5  # seconds between two renewals; an owner that lives is never silent for so long

Judge = Callable[[LogRow, int, BaseException], Failure]


class Handled:
    """What became of rows of a lease: those that are done, and those that failed.

    The lease has one of its own. What is handled in a transaction has another, which counts
    when that is committed.
    """

    def __init__(self, lease: "Lease") -> None:
        self.lease = lease
        self.ready: Set[int] = set()  # positions of the rows that are done
        self.failures: Dict[int, Failure] = {}  # by the position

    def done(self, row: LogRow) -> None:
        """The row need not be handled again."""
        self.ready.add(row[POSITION])

    def failed(self, row: LogRow, error: BaseException, note: str = "") -> Failure:
        """The row's attempt raised this; the note is written behind the error."""
        failure = self.failures[row[POSITION]] = self.lease.judged(row, error, note)
        return failure


class Lease:
    """What one process has taken of a group: see the drawing above.

    One thread handles the rows and settles; the renewer's calls ``renew()`` meanwhile. What is
    done by then is written down with each renewal, unless it waits for a transaction to be
    committed. ``judge`` decides what becomes of a row that failed. ``since`` is when something
    was written down last (``time.monotonic()``).
    """

    def __init__(
        self, ledger: Ledger, group: str, work: Work, options: Options, judge: Judge, since: float
    ) -> None:
        self.group = group
        self.work = work
        self.lost = False  # somebody took it over
        self.over = False  # it is settled, or given up
        self.since = since  # when it was written down last that we have it
        self._ledger = ledger
        self._options = options
        self._judge = judge
        self._lock = threading.Lock()  # guards that what follows fits together
        self._rows: List[LogRow] = list(work.rows)  # that are not settled
        self._handled = Handled(self)  # of these
        self._settled = 0  # rows that are settled
        self._renewed = 0 if work.named else -1  # rows that a renewal knew to be handled
        self._repeated = -1  # the last row that listeners here have seen for nothing
        self._doubtful: Optional[Settlement] = None  # whose answer is not there

    # The rows.

    @property
    def open(self) -> List[LogRow]:
        """The rows to be handled next; in an ordered group none behind one that failed."""
        ready, failures = self._handled.ready, self._handled.failures
        if not ready and not failures:
            return list(self._rows)
        found: List[LogRow] = []
        for row in self._rows:
            if row[POSITION] in failures:
                if self._options.ordered:
                    break
            elif row[POSITION] not in ready:
                found.append(row)
        return found

    @property
    def fresh(self) -> bool:
        """Tell whether nobody can have seen any of the rows before."""
        return self.work.attempt == 1 and not self.work.again and self._repeated < 0

    def attempt_of(self, row: LogRow) -> int:
        """Return the number of the row's attempt. Only the first row may have had one before."""
        return self.work.attempt if row[POSITION] == self.work.rows[0][POSITION] else 1

    def redelivered(self, row: LogRow) -> bool:
        """Tell whether somebody may have seen the row before."""
        return self.work.again or row[POSITION] <= self._repeated or self.attempt_of(row) > 1

    def done(self, row: LogRow) -> None:
        """The row need not be handled again."""
        self._handled.ready.add(row[POSITION])  # in one step: whoever copies the set needs no lock

    def failed(self, row: LogRow, error: BaseException, note: str = "") -> Failure:
        """The row's attempt raised this; return what will be written down of it."""
        failure = self.judged(row, error, note)
        self.blame([failure])
        return failure

    def judged(self, row: LogRow, error: BaseException, note: str = "") -> Failure:
        """Return what is to be written down of the row's attempt; with a note behind the error."""
        failure = self._judge(row, self.attempt_of(row), error)
        return failure._replace(error=failure.error + note) if note else failure

    def blame(self, failures: Iterable[Failure]) -> None:
        """Count attempts whose transaction was lost, with all that was written in it."""
        self._handled.failures.update((failure.row[POSITION], failure) for failure in failures)

    def repeat(self, rows: List[LogRow]) -> None:
        """Remember that listeners may have seen these, and will get them again."""
        self._repeated = max(self._repeated, rows[-1][POSITION])

    def check(self) -> None:
        """Raise Lost if somebody else has it."""
        if self.lost:
            raise Lost()

    # Writing down.

    def settle(self, release: bool = False) -> Settlement:
        """Write down what is done, and what failed; return what was written.

        With ``release`` the rest is left to whoever comes first. Raises Lost. Raises Unavailable
        when the answer was lost: called again, it asks whether that was written before it writes
        it again.
        """
        settlement = self._doubtful
        if settlement is None:
            settlement = self.settlement(release)
        else:
            found = self.resolve()
            if found is not None:
                return found
        try:
            letters = self._ledger.settle(self.group, self.work, settlement)
        except Unavailable:
            self._doubtful = settlement
            raise
        return self._accept(settlement._replace(letters=letters))

    def settle_in(self, connection: Connection, handled: Handled, release: bool = False) -> None:
        """Write down, in the transaction in which they were handled, what became of some rows.

        It counts when ``committed()`` says so, or ``resolve()`` finds out. Raises Lost.
        """
        self._doubtful = settlement = self.settlement(release, handled)
        letters = self._ledger.settle(self.group, self.work, settlement, connection)
        self._doubtful = settlement._replace(letters=letters)

    @property
    def in_doubt(self) -> bool:
        """Tell whether it is not known if the last settlement was committed."""
        return self._doubtful is not None

    def committed(self) -> Settlement:
        """The transaction of ``settle_in()`` is committed; return what was written."""
        assert self._doubtful is not None
        return self._accept(self._doubtful)

    def refused(self) -> None:
        """The transaction of ``settle_in()`` is not committed, and will not be."""
        self._doubtful = None

    def resolve(self) -> Optional[Settlement]:
        """Ask whether a settlement was committed whose answer was lost; return it, or None.

        Raises Lost, and Unavailable: then it may be called again.
        """
        settlement = self._doubtful
        assert settlement is not None
        letters = self._ledger.settled(self.group, self.work, settlement)
        return None if letters is None else self._accept(settlement._replace(letters=letters))

    def stand(self) -> Settlement:
        """Write nothing, since all rows are handled, and a Standing remembers it."""
        return self._accept(self.settlement())

    def settlement(self, release: bool = False, handled: Optional[Handled] = None) -> Settlement:
        """Return what would be written down now; with what was ``handled`` elsewhere, too."""
        own, ordered = self._handled, self._options.ordered
        ready, failed = own.ready, own.failures
        if handled is not None:
            ready, failed = ready | handled.ready, {**failed, **handled.failures}
        rest: List[LogRow] = []
        failures: List[Failure] = []
        together = False
        if not failed:  # as mostly
            rest = [row for row in self._rows if row[POSITION] not in ready]
        for index, row in enumerate(self._rows if failed else ()):
            failure = failed.get(row[POSITION])
            if failure is None:
                if row[POSITION] not in ready:
                    rest.append(row)
            elif ordered and rest:
                rest.append(row)  # its turn comes when nothing before it is open
            else:
                failures.append(failure)
                if ordered and failure.delay is not None:
                    together, rest = True, self._rows[index + 1 :]
                    break
        done = len(self._rows) - len(rest) - len(failures)
        keep = bool(rest) and not together and not release
        attempt = self.attempt_of(rest[0]) if rest else 1
        return Settlement(rest, failures, keep, attempt, done, together)

    def _accept(self, settlement: Settlement) -> Settlement:
        """Forget what is settled now."""
        with self._lock:
            left = {row[POSITION] for row in settlement.rest}
            own, self._handled = self._handled, Handled(self)
            self._handled.failures = {
                position: failure for position, failure in own.failures.items() if position in left
            }
            self._settled += len(self._rows) - len(settlement.rest)
            self._rows = list(settlement.rest)
            self.work = self.work._replace(named=True)
            self._doubtful = None
            self.over = self.over or not settlement.keep
        return settlement

    # Renewing.

    def renew(self) -> bool:
        """Keep it for a whole lease more; tell whether it is still ours.

        It names from then on what is not done, and at least one row.
        """
        now = time.monotonic()
        with self._lock:
            work, rows, ready = self.work, self._rows, set(self._handled.ready)
            handled = self._settled + len(ready)
        left = None
        if ready or not work.named:
            left = [row for row in rows if row[POSITION] not in ready] or rows[-1:]
        attempt = self.attempt_of(left[0]) if left else 1
        kept = self._ledger.renew(
            self.group, work, self._options.lease, left, attempt, lambda: not self.over
        )
        with self._lock:
            self.lost = self.lost or not (kept or self.over)
            if not self.over:
                self._renewed, self.since = handled, now
        return kept

    @property
    def renewal(self) -> float:
        """In how many seconds it has to be renewed; now, if that is not above 0."""
        interval = RENEWAL
        with self._lock:
            handled = self._settled + len(self._handled.ready)
        if self._ledger.log.one_writer and self._renewed == handled:
            # Whether its owner's process lives is known without: only the time is to be written.
            interval = max(RENEWAL, self._options.lease / 4)
        return self.since + interval - time.monotonic()

    def close(self) -> None:
        """Renew it no more: nobody here works with it."""
        self.over = True
