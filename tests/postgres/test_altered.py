"""A listener that names a column which the table has no more is as loud as one that raises."""

import pytest

from pgevents import Hub, Retry, UsageError, signals
from pgevents.testing import wait_until

GONE = "orders.status, which is no column any more; there are id, item"


@pytest.fixture
def orders(postgres):
    """A table of orders with one in it."""
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text, status text)")
    postgres.execute("INSERT INTO orders (item) VALUES ('tea')")
    return postgres


@pytest.fixture
def failed(registry):
    """What the signal listener_failed has told."""
    told = []

    def tell(hub, listener, events, error):
        told.append((listener, error))

    signals.listener_failed.connect(tell)
    yield told
    signals.listener_failed.disconnect(tell)


@pytest.mark.parametrize("options", [{"columns": ["status"]}, {"where": {"status": "paid"}}])
@pytest.mark.parametrize(
    "alter, there", [("RENAME status TO state", ", state"), ("DROP status", "")]
)
def test_a_listener_whose_column_is_gone_is_reported(
    orders, registry, failed, options, alter, there
):
    registry.listen("orders", "after_update", print, **options)

    with Hub(orders.url, registry, retry=Retry(attempts=1)) as hub:
        orders.execute("ALTER TABLE orders " + alter)
        orders.execute("UPDATE orders SET item = 'milk'")
        orders.execute("UPDATE orders SET item = 'salt'")
        assert hub.drain()

    assert [listener for listener, _ in failed] == [print, print]
    assert all(isinstance(error, UsageError) for _, error in failed)
    assert "print asks for public." + GONE + there in str(failed[0][1])


def test_a_group_makes_a_dead_letter_and_hears_again_when_the_column_is_back(
    orders, registry, heard
):
    registry.listen("orders", "after_insert", heard, where={"status": None}, group="g")
    hub = Hub(orders.url, registry)
    hub.group("g", max_attempts=2, backoff=(0.01, 0.01))

    with hub:
        orders.execute("ALTER TABLE orders RENAME status TO state")
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        letter = wait_until(hub.group("g").dead_letters)[0]
        orders.execute("ALTER TABLE orders RENAME state TO status")
        orders.execute("INSERT INTO orders (item) VALUES ('milk')")
        event = heard.next()

    assert GONE in letter.error
    assert letter.event.key == 2
    assert event.key == 3


def test_the_housekeeper_says_it_too_before_anything_is_written(orders, registry, caplog):
    registry.listen("orders", "after_update", print, columns=["status"])

    with Hub(orders.url, registry, retention=1):
        orders.execute("ALTER TABLE orders RENAME status TO state")
        wait_until(lambda: "print asks for public.orders.status" in caplog.text)


@pytest.mark.parametrize("operation", ["insert", "update"])
def test_a_row_that_is_told_by_its_key_alone_fails_nobody(orders, registry, failed, operation):
    registry.listen("orders", ["after_insert", "after_update"], print, where={"status": "paid"})

    with Hub(orders.url, registry) as hub:
        # As a row of more than 200 MB is told.
        orders.execute(
            "INSERT INTO pgevents.log (topic, operation, new)"
            " VALUES ('public.orders', %s, '{\"id\": 1}')",
            operation,
        )
        assert hub.drain()

    assert (failed, hub.status()["failed"], hub.status()["handled"]) == ([], 0, 1)
