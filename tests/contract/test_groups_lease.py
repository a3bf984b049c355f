"""A lease in the database: renewed, settled in part, overtaken, lost."""

import contextlib
import threading
import time

import pytest

from pgevents import Hub
from pgevents.database.grouplog import LAST
from pgevents.groups.failure import Failures
from pgevents.groups.lease import Handled, Lease
from pgevents.groups.lost import Lost
from pgevents.groups.options import Options
from pgevents.groups.standing import Standing

from ..waiting import wait_for

LEASE = 300  # seconds; no test takes that long


@pytest.fixture
def stock(orders, registry):
    """The ledger of a group that nobody works for, and for which five rows are in the log."""
    registry.listen("orders", "after_insert", print, group="stock")
    hub = Hub(orders.url, registry)
    with hub:
        definition = hub._groups._consumers["stock"].definition
    for item in "abcde":
        orders.execute("INSERT INTO orders (item) VALUES (%s)", item)
    ledger = hub._groups.ledger()
    yield Stock(orders, ledger, definition)
    ledger.log.dispose()


class Stock:
    def __init__(self, database, ledger, definition):
        self.database, self.ledger, self._definition = database, ledger, definition
        sqlite = database.kind == "sqlite"
        self._topics = ["main.orders" if sqlite else "public.orders"]
        self._prefix = "pgevents_" if sqlite else "pgevents."

    def claim(self, size):
        return self.ledger.claims.claim(
            "stock", self._definition, "here", self._topics, Options(batch_size=size)
        ).work

    def follow(self, standing, size):
        claim, _ = self.ledger.claims.follow(
            "stock", self._definition, standing, self._topics, Options(batch_size=size)
        )
        return claim.work

    def lease(self, named=True, ordered=True):
        """Take three rows; the lease does not name them yet if they are not ``named``."""
        if named:
            return self.held(self.claim(3), ordered)
        standing = Standing(self.claim(1), float("inf"))
        standing.handled(self.follow(standing, 1), float("inf"))
        work = self.follow(standing, 3)
        assert not work.named
        return self.held(work, ordered)

    def held(self, work, ordered=True):
        options = Options(lease=LEASE, ordered=ordered, backoff=(60, 60))
        judge = Failures("stock", options.max_attempts, options.backoff, True, None).of
        return Lease(self.ledger, "stock", work, options, judge, time.monotonic())

    def wait_for_one_who_waits(self):
        """Wait until somebody waits for a lock; on SQLite threads take turns, which nobody sees."""
        if self.database.kind != "sqlite":
            wait_for(
                lambda: self.database.execute(
                    "SELECT 1 FROM pg_stat_activity"
                    " WHERE datname = current_database() AND wait_event_type = 'Lock'"
                )
            )

    def names(self):
        """Return the rows that the only lease names."""
        ((seqs,),) = self.database.execute("SELECT seqs FROM {}leases".format(self._prefix))
        return [int(seq) for seq in seqs.split(",")]

    def leases(self):
        """Return each lease: the rows it names, its attempt, its owner."""
        found = self.database.execute(
            "SELECT seqs, attempt, owner FROM {}leases ORDER BY id".format(self._prefix)
        )
        return [([int(n) for n in seqs.split(",")], *others) for seqs, *others in found]

    def cursor(self):
        return self.database.execute("SELECT cursor FROM {}groups".format(self._prefix))[0][0]


def numbers(lease, *places):
    """The numbers of some of a lease's rows, and of what follows it."""
    rows = [row[0] for row in lease.work.rows]
    return [rows[place] for place in places] + ([LAST] if lease.work.open else [])


def handle(lease, *places):
    for place in places:
        lease.done(lease.work.rows[place])


def handled(lease, *places):
    """What was handled in a transaction."""
    found = Handled(lease)
    for place in places:
        found.done(lease.work.rows[place])
    return found


def overtaken(monkeypatch, log, meanwhile):
    """Do something between the beginning of the next write and its transaction."""
    write = log.write

    def late(job):
        monkeypatch.setattr(log, "write", write)
        meanwhile()
        return write(job)

    monkeypatch.setattr(log, "write", late)


named_or_not = pytest.mark.parametrize("named", [True, False], ids=["named", "unnamed"])


@named_or_not
@pytest.mark.parametrize("finished", [(), (0,)], ids=["nothing", "one"])
def test_a_renewal_keeps_what_was_acknowledged_while_it_waited(stock, monkeypatch, named, finished):
    lease = stock.lease(named)
    handle(lease, *finished)

    def acknowledge():
        handle(lease, 0, 1)
        lease.settle()

    overtaken(monkeypatch, stock.ledger.log, acknowledge)

    assert lease.renew()

    assert stock.names() == numbers(lease, 2)
    assert not lease.lost


@named_or_not
def test_a_renewal_does_not_make_a_settlement_of_what_was_not_committed(stock, named):
    lease = stock.lease(named)
    handle(lease, 0)
    lease.settle()
    with contextlib.suppress(LookupError), stock.ledger.log.transaction() as connection:
        lease.settle_in(connection, handled(lease, 1))
        raise LookupError("and the answer is lost")

    assert lease.renew()

    assert stock.names() == numbers(lease, 1, 2)
    assert lease.resolve() is None


@named_or_not
@pytest.mark.parametrize(
    "finished, left",
    [((), (0, 1, 2)), ((0, 1), (2,)), ((1,), (0, 2)), ((0, 2), (1,)), ((0, 1, 2), (2,))],
    ids=str,
)
def test_a_renewal_names_what_is_not_finished_and_at_least_one(stock, named, finished, left):
    lease = stock.lease(named)
    handle(lease, *finished)

    assert lease.renew()

    assert stock.names() == numbers(lease, *left)
    assert stock.cursor() == lease.work.behind


@named_or_not
def test_what_is_settled_may_be_any_part_of_a_lease(stock, named):
    lease = stock.lease(named, ordered=False)
    handle(lease, 1)

    lease.settle()

    assert stock.names() == numbers(lease, 0, 2)
    assert [row[0] for row in lease.open] == stock.names()[:2]
    handle(lease, 0, 2)
    assert lease.settle().done == 2
    assert lease.over
    assert stock.leases() == []


def test_what_fails_in_the_middle_waits_alone_in_a_group_without_an_order(stock):
    lease = stock.lease(ordered=False)
    handle(lease, 0)
    lease.failed(lease.work.rows[1], ValueError("no"))

    lease.settle()

    one, two, three = numbers(lease, 0, 1, 2)
    assert stock.leases() == [([three], 1, "here"), ([two], 2, None)]
    assert not lease.over


def test_what_fails_in_the_middle_keeps_the_rest_behind_it_in_an_ordered_group(stock):
    lease = stock.lease()
    lease.failed(lease.work.rows[1], ValueError("no"))
    lease.settle()
    assert stock.leases() == [(numbers(lease, 0, 1, 2), 1, "here")]  # not its turn yet
    handle(lease, 0)

    lease.settle()

    assert stock.leases() == [(numbers(lease, 1, 2), 2, None)]
    assert lease.over


def test_a_renewal_that_waits_for_a_transaction_keeps_what_it_commits(stock):
    lease, kept = stock.lease(), []
    handle(lease, 0)
    renewal = threading.Thread(target=lambda: kept.append(lease.renew()))

    with stock.ledger.log.transaction() as connection:
        lease.settle_in(connection, handled(lease, 1))
        renewal.start()
        stock.wait_for_one_who_waits()
    renewal.join()

    assert kept == [True]
    assert stock.names() == numbers(lease, 2)
    assert lease.resolve() is not None


def test_a_renewal_keeps_what_a_transaction_handles_until_that_is_committed(stock):
    lease = stock.lease()
    handle(lease, 0)
    with contextlib.suppress(LookupError), stock.ledger.log.transaction() as connection:
        lease.settle_in(connection, handled(lease, 1))
        raise LookupError("it is rolled back")
    assert lease.renew()
    lease.refused()

    assert lease.renew()

    assert stock.names() == numbers(lease, 1, 2)
    assert [row[0] for row in lease.open] == stock.names()


def test_whether_a_settlement_was_committed_is_not_said_before_its_transaction_has_ended(stock):
    lease, said = stock.lease(), []
    question = threading.Thread(target=lambda: said.append(lease.resolve()))

    with stock.ledger.log.transaction() as connection:
        lease.settle_in(connection, handled(lease, 0, 1))
        question.start()
        stock.wait_for_one_who_waits()
    question.join()

    assert [settlement.done for settlement in said] == [2]


def test_a_lease_that_somebody_took_over_is_lost(stock):
    lease = stock.lease()
    handle(lease, 0)
    stock.database.execute("UPDATE {}leases SET owner = 'there'".format(stock._prefix))

    assert not lease.renew()

    assert lease.lost
    for step in (lease.check, lease.settle):
        with pytest.raises(Lost):
            step()
    assert stock.names() == numbers(lease, 0, 1, 2)
