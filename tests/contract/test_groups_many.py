"""A claim costs the same, however many events wait to be tried again."""

import contextlib
import copy
import time

import pytest

from pgevents import Hub, Registry
from pgevents.groups.ledger import Ledger
from pgevents.groups.options import Options
from pgevents.groups.settlement import Settlement

OWNER = "here:1:1"
ALL_DONE = Settlement([], [], keep=False, attempt=1, done=1)
MANY = 3000  # events that wait
MORE = 1.5  # times that a claim may cost with them; one that reads them all costs 10 and more


class Claims:
    """A group whose claims are counted, in rows of leases, on SQLite in instructions."""

    def __init__(self, database):
        self.database = database
        self.hub = Hub(database.url, Registry())
        self.hub.watch("orders")
        self.hub.install()
        self.ledger = self.hub._groups.ledger()
        self.options = Options(ordered=False, batch_size=1)
        self.topics = ["main.orders" if database.kind == "sqlite" else "public.orders"]
        self.definition = self.options.definition({self.topics[0]: ["insert"]})
        self.ledger.groups.define("g", "now", list, definition=self.definition, owner=OWNER)

    def wait(self, number, **values):
        """Write leases as events leave that have failed."""
        now = time.time()
        rows = [{"seqs": str(n), "due": now + 3600 + n, **values} for n in range(number)]
        insert = self.hub._backend.tables.leases.insert().values(
            group_name="g", attempt=2, renewed=now - 60
        )
        with self.ledger.log.transaction() as connection:
            connection.execute(insert, rows)

    def cost(self):
        """Claim an event and acknowledge it; return what was taken, and how much was read."""
        self.database.execute("INSERT INTO orders (item) VALUES ('tea')")
        log = copy.copy(self.ledger.log)
        ledger = Ledger(self.hub._backend.tables, log)
        with self.ledger.log.transaction() as connection:
            log.reading = lambda: contextlib.nullcontext(connection)
            log.write = lambda write: write(connection)
            count = self._instructions if self.database.kind == "sqlite" else self._rows
            with count(connection) as read:
                work = ledger.claims.claim(
                    "g", self.definition, OWNER, self.topics, self.options
                ).work
                ledger.settle("g", work, ALL_DONE)
        return work, len(read)

    @contextlib.contextmanager
    def _instructions(self, connection):
        read = []
        raw = connection.connection.cursor().connection
        raw.set_progress_handler(lambda: read.append(1) and None, 10)
        yield read
        raw.set_progress_handler(None, 10)

    @contextlib.contextmanager
    def _rows(self, connection):
        counted = (
            "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0)"
            " FROM pg_stat_xact_all_tables WHERE relid = 'pgevents.leases'::regclass"
        )
        before = connection.exec_driver_sql(counted).scalar()
        read = []
        yield read
        read += range(connection.exec_driver_sql(counted).scalar() - before)


@pytest.fixture
def claims(orders):
    found = Claims(orders)
    yield found
    found.hub.stop()


def test_a_claim_costs_no_more_when_thousands_wait_to_be_tried_again(claims):
    claims.cost()
    _, alone = claims.cost()
    claims.wait(MANY)
    work, beside = claims.cost()

    assert (work.attempt, len(work.rows)) == (1, 1)
    assert beside <= MORE * alone + 10


def test_the_one_that_is_due_is_found_among_thousands_that_are_not(claims):
    claims.cost()
    claims.wait(1, due=0.0)
    _, alone = claims.cost()
    claims.wait(MANY)
    claims.wait(1, due=0.0)
    work, beside = claims.cost()

    assert work.attempt == 2
    assert beside <= MORE * alone + 10


def test_thousands_that_are_due_at_once_are_taken_one_by_one_at_the_price_of_one(claims):
    claims.cost()
    claims.wait(1, due=0.0)
    _, alone = claims.cost()
    claims.wait(MANY, due=0.0)
    work, beside = claims.cost()

    assert work.attempt == 2
    assert beside <= 30 * alone


def test_a_database_of_an_earlier_release_gets_the_indexes(orders):
    hub = Hub(orders.url, Registry())
    hub.watch("orders")
    hub.install()
    table = hub._backend.tables.leases
    names = {index.name for index in table.indexes}
    for name in names:
        orders.execute(
            "DROP INDEX {}".format(name if orders.kind == "sqlite" else "pgevents." + name)
        )
    if orders.kind == "postgresql":
        orders.execute("COMMENT ON SCHEMA pgevents IS 'pgevents 1 0'")
    hub.install()

    there = (
        "SELECT name FROM sqlite_master WHERE type = 'index'"
        if orders.kind == "sqlite"
        else "SELECT indexname FROM pg_indexes WHERE schemaname = 'pgevents'"
    )
    assert len(names) == 3
    assert names <= {row[0] for row in orders.execute(there)}
