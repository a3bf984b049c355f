"""Messages that are published for later, that expire, and that are published once."""

import time
from datetime import datetime, timedelta, timezone

import pytest
from sqlalchemy import text

from pgevents import Hub, Outgoing, Registry, UsageError

from ..waiting import TIMEOUT, wait_until


@pytest.fixture(autouse=True)
def there(database):
    """A file of SQLite has to be there before a hub opens it."""
    database.execute("CREATE TABLE other (id integer)")


@pytest.fixture
def hub(database):
    with Hub(database.url, Registry(), dedupe_window=1.0) as hub:
        yield hub


@pytest.fixture
def got(hub):
    messages = []
    hub.subscribe("*")(messages.append)
    return messages


def waiting(database, table="delayed"):
    with database.engine().connect() as connection:
        name = Hub(database.url)._parts.backend.tables.name(table)
        return connection.execute(text(f"SELECT count(*) FROM {name}")).scalar()


def test_a_delayed_message_is_received_when_it_is_due_and_the_others_before_it(hub, got):
    began = time.monotonic()
    hub.publish("a", "later", key="k", metadata={"m": 1}, delay=1)
    hub.publish("a", "now", key="k")

    wait_until(lambda: len(got) == 1)
    assert got[0].payload == "now" and got[0].due is None
    wait_until(lambda: len(got) == 2)
    assert time.monotonic() - began >= 1.0
    assert (got[1].payload, got[1].key, got[1].metadata) == ("later", "k", {"m": 1})
    assert abs(got[1].due - datetime.now(timezone.utc)) < timedelta(seconds=5)


def test_a_message_that_is_due_sooner_is_not_kept_by_one_that_another_process_moves(
    hub, got, database
):
    other = Hub(database.url, Registry())  # not started: it moves nothing, and wakes nobody here
    other.publish("a", "in an hour", delay=3600)
    other.publish_many([Outgoing("a", 2, delay=0.4), Outgoing("a", 1, delay=0.2)])

    wait_until(lambda: len(got) == 2)
    assert [message.payload for message in got] == [1, 2]
    assert waiting(database) == 1


def test_a_delayed_message_of_a_transaction_that_is_rolled_back_is_gone(hub, got, database):
    with database.engine().connect() as connection:
        transaction = connection.begin()
        hub.publish("a", 1, bind=connection, delay=0.1)
        transaction.rollback()
    with database.engine().begin() as connection:
        hub.publish("a", 2, bind=connection, delay=0.1)

    wait_until(lambda: got)
    assert [message.payload for message in got] == [2]


def test_what_is_due_while_no_hub_runs_is_received_by_a_group_once_one_runs(database):
    def work(message):
        got.append(message.payload)

    got, registry = [], Registry()
    hub = Hub(database.url, registry)
    hub.subscribe("a", group="workers")(work)
    with hub:
        hub.drain(TIMEOUT)
    Hub(database.url, Registry()).publish("a", 1, delay=0.01)

    with hub:
        wait_until(lambda: got == [1])


def test_a_message_with_an_id_of_the_publisher_is_published_once(hub, got, database):
    ids = [hub.publish("a", n, id="mine", delay=delay) for n, delay in ((1, None), (2, 0.01))]
    ids += hub.publish_many(
        [Outgoing("a", 3, id="mine"), Outgoing("b", 4, id="mine"), ("b", 5)]
        + [Outgoing("b", n, id="yours") for n in (6, 7)]
    )

    assert hub.drain(TIMEOUT)
    assert [message.payload for message in got] == [1, 4, 5, 6]
    assert ids[:4] == ["mine"] * 4 and ids[5:] == ["yours"] * 2
    assert waiting(database) == 0


def test_an_id_whose_publisher_rolled_back_is_free_again(hub, got, database):
    with database.engine().connect() as connection:
        transaction = connection.begin()
        hub.publish("a", 1, id="mine", bind=connection)
        transaction.rollback()
    hub.publish("a", 2, id="mine")

    assert hub.drain(TIMEOUT)
    assert [message.payload for message in got] == [2]


def test_an_id_is_free_again_after_the_window(hub, got, database):
    hub.publish("a", 1, id="mine")
    wait_until(lambda: waiting(database, "ids") == 0)
    hub.publish("a", 2, id="mine")

    assert hub.drain(TIMEOUT)
    assert [message.payload for message in got] == [1, 2]


@pytest.mark.parametrize("given", [{"delay": -1}, {"delay": "1"}, {"expires": float("nan")}])
def test_seconds_are_checked_before_the_database_is_asked(given):
    with pytest.raises(UsageError, match="give seconds"):
        Hub("sqlite:////nowhere/at/all").publish("a", 1, **given)


def test_an_expired_message_is_delivered_to_nobody_and_counted(database, registry):
    got, worked = [], []
    hub = Hub(database.url, registry)
    hub.subscribe("*")(got.append)
    hub.subscribe("*", group="workers")(lambda message: worked.append(message.payload))
    with hub:
        with database.engine().begin() as connection:
            hub.publish("a", 1, expires=0.01, bind=connection)
            ended = time.monotonic() + 0.2
            wait_until(lambda: time.monotonic() > ended)
        hub.publish("a", 3, expires=60)
        hub.publish("a", 4)

        wait_until(lambda: worked == [3, 4] and len(got) == 2)
        assert [message.payload for message in got] == [3, 4]
        assert hub.status()["expired"] == 2
