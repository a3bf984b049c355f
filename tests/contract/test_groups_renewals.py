"""A renewal that others overtake keeps what they have written of the lease."""

import threading

import pytest

from pgevents import Hub
from pgevents.database.grouplog import LAST
from pgevents.groups.runner import Options
from pgevents.groups.standing import Standing

from ..waiting import wait_for

LEASE = 300  # seconds; no test takes that long


@pytest.fixture
def stock(orders, registry):
    """The ledger of a group that nobody works for, and for which five rows are in the log."""
    registry.listen("orders", "after_insert", print, group="stock")
    hub = Hub(orders.url, registry)
    with hub:
        definition = hub._groups._runners["stock"].definition
    for item in "abcde":
        orders.execute("INSERT INTO orders (item) VALUES (%s)", item)
    ledger = hub._groups.ledger()
    yield Stock(orders, ledger, definition)
    ledger._log.dispose()


class Stock:
    def __init__(self, database, ledger, definition):
        self.database, self.ledger, self._definition = database, ledger, definition
        sqlite = database.kind == "sqlite"
        self._topics = ["main.orders" if sqlite else "public.orders"]
        self._prefix = "pgevents_" if sqlite else "pgevents."

    def claim(self, size):
        return self.ledger.claim(
            "stock", self._definition, "here", self._topics, Options(batch_size=size)
        ).work

    def follow(self, standing, size):
        claim, _ = self.ledger.follow(
            "stock", self._definition, standing, self._topics, Options(batch_size=size)
        )
        return claim.work

    def work(self, named):
        """Take three rows; the lease does not name them yet if they are not ``named``."""
        if named:
            return self.claim(3)
        standing = Standing(self.claim(1), float("inf"))
        standing.handled(self.follow(standing, 1), float("inf"))
        work = self.follow(standing, 3)
        assert not work.named
        return work

    def renew(self, work, finished):
        return self.ledger.renew("stock", work, LEASE, finished)

    def settle(self, work, rest, connection=None):
        self.ledger.settle("stock", work, rest, [], True, keep=True, connection=connection)

    def wait_for_one_who_waits(self):
        """Wait until somebody waits for a lock; on SQLite threads take turns, which nobody sees."""
        if self.database.kind != "sqlite":
            wait_for(
                lambda: self.database.execute(
                    "SELECT 1 FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )

    def lease(self):
        """Return the rows that the only lease names."""
        ((seqs,),) = self.database.execute("SELECT seqs FROM {}leases".format(self._prefix))
        return [int(seq) for seq in seqs.split(",")]

    def cursor(self):
        return self.database.execute("SELECT cursor FROM {}groups".format(self._prefix))[0][0]


def numbers(work, first):
    return [row[0] for row in work.rows[first:]] + ([LAST] if work.open else [])


def overtaken(monkeypatch, ledger, meanwhile):
    """Do something between the beginning of the next write and its transaction."""
    write = ledger._write

    def late(job):
        monkeypatch.setattr(ledger, "_write", write)
        meanwhile()
        return write(job)

    monkeypatch.setattr(ledger, "_write", late)


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("finished", [0, 1])
def test_a_renewal_keeps_what_was_acknowledged_while_it_waited(stock, monkeypatch, named, finished):
    work = stock.work(named)
    overtaken(monkeypatch, stock.ledger, lambda: stock.settle(work, work.rows[2:]))

    assert stock.renew(work, finished)

    assert stock.lease() == numbers(work, 2)
    assert stock.ledger.settled(work, work.rows[2:], True)


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
def test_a_renewal_does_not_make_a_settlement_of_what_was_not_committed(stock, monkeypatch, named):
    work = stock.work(named)
    stock.settle(work, work.rows[1:])

    assert stock.renew(work, 1)

    assert stock.lease() == numbers(work, 1)
    assert not stock.ledger.settled(work, work.rows[2:], True)


@pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])
@pytest.mark.parametrize("finished, left", [(0, 0), (2, 2), (3, 2)])
def test_a_renewal_names_what_is_not_finished_and_at_least_one(stock, named, finished, left):
    work = stock.work(named)

    assert stock.renew(work, finished)

    assert stock.lease() == numbers(work, left)
    assert stock.cursor() == work.behind


def test_a_renewal_that_waits_for_a_transaction_keeps_what_it_commits(stock):
    work, kept = stock.claim(3), []
    renewal = threading.Thread(target=lambda: kept.append(stock.renew(work, 1)))

    with stock.ledger.transaction() as connection:
        stock.settle(work, work.rows[2:], connection)
        renewal.start()
        stock.wait_for_one_who_waits()
    renewal.join()

    assert kept == [True]
    assert stock.lease() == numbers(work, 2)
    assert stock.ledger.settled(work, work.rows[2:], True)


def test_whether_a_settlement_was_committed_is_not_said_before_its_transaction_has_ended(stock):
    work, said = stock.claim(3), []
    question = threading.Thread(
        target=lambda: said.append(stock.ledger.settled(work, work.rows[2:], True))
    )

    with stock.ledger.transaction() as connection:
        stock.settle(work, work.rows[2:], connection)
        question.start()
        stock.wait_for_one_who_waits()
    question.join()

    assert said == [True]
