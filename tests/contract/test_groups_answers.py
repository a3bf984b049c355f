"""An answer of the database is lost: what was committed counts, what was not is done again."""

import contextlib

import pytest
import sqlalchemy

from pgevents import Hub, signals
from pgevents.errors import Unavailable

from ..orders import insert
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds; a lease is longer here
LEASE = 300


def lose_answer(monkeypatch, ledger, thing, method, committed):
    """Lose the answer to the first transaction in which this method returned something.

    With ``committed`` the database has committed it, else it has not. Returns how often it was.
    """
    log = ledger.log
    real, write, call = log.transaction, log.write, getattr(thing, method)
    lost, pending = [], []

    def lose():
        lost.append(pending.pop())
        raise Unavailable("the answer was lost")

    @contextlib.contextmanager
    def transaction():
        with real() as connection:
            yield connection
            if pending and not committed:
                lose()
        if pending:
            lose()

    def noticed(*args, **options):
        found = call(*args, **options)
        empty = isinstance(found, tuple) and not found[0]  # read() gave no rows
        if not lost and not pending and not empty:
            pending.append(method)
        return found

    def write_lost(work):
        def work_lost(connection):
            found = work(connection)
            if pending and not committed:
                lose()
            return found

        found = write(work_lost)
        if pending:
            lose()
        return found

    monkeypatch.setattr(log, "transaction", transaction)
    monkeypatch.setattr(log, "write", write_lost)
    monkeypatch.setattr(thing, method, noticed)
    return lost


@pytest.mark.parametrize("committed", [True, False], ids=["committed", "not"])
@pytest.mark.parametrize(
    "what, transactional",
    [
        ("claim", False),
        ("acknowledgement", False),
        ("acknowledgement", True),
    ],
    ids=["claim", "acknowledgement", "transaction"],
)
def test_all_is_there_once_and_at_once_whatever_answer_is_lost(
    orders, registry, monkeypatch, what, committed, transactional
):
    orders.execute("CREATE TABLE effects (item text)")
    told, attempts = [], []

    def handle(event, connection=None):
        if event.new["item"] == "bad":
            attempts.append(event.attempt)
            raise ValueError("poison")
        if connection is not None:
            connection.execute(
                sqlalchemy.text("INSERT INTO effects VALUES (:item)"), {"item": event.new["item"]}
            )
        else:
            insert_effect(orders, event)

    def tell(hub, event, **details):
        told.append(event.new["item"])

    registry.listen("orders", "after_insert", handle, group="stock", transactional=transactional)
    hub = Hub(orders.url, registry)
    group = hub.group("stock", max_attempts=1, lease=LEASE)
    with hub, signals.dead_lettered.connected_to(tell, sender=hub):
        group.pause()
        insert(orders, "tea", "bad", "milk")
        ledger = hub._groups.ledger()
        thing, method = (ledger.log, "read") if what == "claim" else (ledger, "settle")
        lost = lose_answer(monkeypatch, ledger, thing, method, committed)
        group.resume()
        wait_for(lambda: told, TIMEOUT)
        wait_for(lambda: group.lag()[0] == 0, TIMEOUT)
        letters = group.dead_letters()

    assert len(lost) == 1
    assert told == ["bad"] and [letter.event.new["item"] for letter in letters] == ["bad"]
    assert attempts in ([1], [1, 1])
    assert orders.execute("SELECT item FROM effects ORDER BY item") == [("milk",), ("tea",)]


def insert_effect(database, event):
    database.execute("INSERT INTO effects VALUES (%s)", event.new["item"])


@pytest.mark.parametrize("ordered", [True, False], ids=["ordered", "any"])
def test_effects_are_there_once_though_a_batch_listener_beside_them_fails(
    orders, registry, ordered
):
    orders.execute("CREATE TABLE effects (item text)")
    batches = []

    def write(event, connection):
        connection.execute(
            sqlalchemy.text("INSERT INTO effects VALUES (:item)"), {"item": event.new["item"]}
        )

    def index(events):
        batches.append([event.new["item"] for event in events])
        if len(batches) == 1:
            raise ValueError("the index is closed")

    registry.listen("orders", "after_insert", write, group="stock", transactional=True)
    registry.listen("orders", "after_insert", index, group="stock", batch=True)
    hub = Hub(orders.url, registry)
    group = hub.group("stock", ordered=ordered, backoff=(0.01, 0.02), lease=LEASE)
    with hub:
        insert(orders, "tea", "milk", "salt")
        wait_for(lambda: group.lag()[0] == 0, TIMEOUT)

    found = orders.execute("SELECT item FROM effects ORDER BY item")
    assert found == [("milk",), ("salt",), ("tea",)]
    assert {item for batch in batches[1:] for item in batch} == {"tea", "milk", "salt"}
