"""The life of a hub: drained while others write, stopped from inside, polled."""

import re
import threading
import time

import pytest
import sqlalchemy

from pgevents import Hub, Registry, Unavailable, UsageError

from ..orders import insert, items
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


def test_drain_ends_while_others_go_on_writing(orders, registry, heard):
    over = threading.Event()

    def write():
        while not over.is_set():
            insert(orders, "another")

    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry) as hub:
        writers = [threading.Thread(target=write) for _ in range(3)]
        for writer in writers:
            writer.start()
        try:
            for n in range(20):
                insert(orders, "mine")
                assert hub.drain(TIMEOUT)
                assert items(heard.rest()).count("mine") == 1
        finally:
            over.set()
            for writer in writers:
                writer.join()


def test_drain_waits_for_groups_too(orders, registry):
    go_on, handled = threading.Event(), []

    def slow(event):
        go_on.wait(TIMEOUT)
        handled.append(event.new["item"])

    registry.listen("orders", "after_insert", slow, group="g")
    with Hub(orders.url, registry) as hub:
        insert(orders, *map(str, range(50)))
        assert not hub.drain(0.2)
        go_on.set()
        assert hub.drain(TIMEOUT)
        assert handled == [str(n) for n in range(50)]


@pytest.mark.parametrize("group", [None, "g"])
def test_a_listener_cannot_drain_its_own_hub(orders, registry, heard, group):
    def impatient(event):
        with pytest.raises(UsageError, match="wait for itself"):
            hub.drain()
        heard(event)

    registry.listen("orders", "after_insert", impatient, group=group)
    with Hub(orders.url, registry) as hub:
        insert(orders, "a")
        event = heard.next()

    assert event.new["item"] == "a"


@pytest.mark.parametrize("workers", [1, 4])
def test_stop_inside_a_listener_returns_at_once_and_the_rest_is_handled(
    orders, registry, heard, workers
):
    seconds = []

    def stop(event):
        heard(event)
        if event.new["item"] == "0":
            wait_for(lambda: hub.status()["read"] == 40)  # the rest is in the queue
            begun = time.monotonic()
            hub.stop()
            seconds.append(time.monotonic() - begun)

    registry.listen("orders", "after_insert", stop)
    registry.listen("orders", "after_update", heard)
    hub = Hub(orders.url, registry, workers=workers).start()
    writer = orders.connect()
    cursor = writer.cursor()
    for n in range(20):
        cursor.execute("INSERT INTO orders (item) VALUES ('{}')".format(n))
    for n in range(1, 21):
        # A changed key waits for all workers, one of whom is in stop().
        cursor.execute("UPDATE orders SET id = {} WHERE id = {}".format(n + 100, n))
    writer.commit()
    wait_for(lambda: seconds)

    heard.take(40, TIMEOUT)
    assert seconds[0] < 5
    assert hub.status()["state"] == "stopped"


def test_poll_learns_of_listeners_that_come_later(database, registry, heard):
    for table in ("orders", "bills"):
        database.execute("CREATE TABLE {} (id integer PRIMARY KEY)".format(table))
    hub = Hub(database.url, registry)
    registry.listen("orders", "after_insert", heard)
    assert hub.poll() == 0

    registry.listen("bills", "after_insert", heard)
    database.execute("INSERT INTO bills VALUES (7)")

    assert hub.poll(TIMEOUT) == 1
    assert heard.next().key == 7
    hub.stop()


def test_poll_refuses_listeners_of_groups_which_it_would_never_call(orders, registry, heard):
    hub = Hub(orders.url, registry)
    registry.listen("orders", "after_insert", heard)
    hub.poll()
    with pytest.raises(UsageError, match="group 'mailer'"):
        registry.listen("orders", "after_insert", heard, group="mailer")
    hub.stop()

    registry.listen("orders", "after_insert", heard, group="mailer")
    with pytest.raises(UsageError, match="group 'mailer'"):
        hub.poll()


def test_poll_goes_on_after_a_lost_connection(postgres, registry, heard):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard)
    hub = Hub(postgres.url, registry)
    hub.poll()
    insert(postgres, "a")

    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name = 'pgevents' AND datname = %s",
        postgres.name,
    )
    with pytest.raises(Unavailable):
        hub.poll()
    insert(postgres, "b")

    assert hub.poll(TIMEOUT) == 2
    assert items(heard.rest()) == ["a", "b"]
    hub.stop()


def test_started_and_polled_exclude_each_other_and_one_goes_on_for_the_other(
    orders, registry, heard
):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    hub.poll()
    insert(orders, "between")

    with hub:
        assert items([heard.next()]) == ["between"]
        with pytest.raises(UsageError, match="started"):
            hub.poll()

    for call in (hub.drain, hub.wait_ready):
        with pytest.raises(UsageError, match="started"):
            call()


def together(count, call):
    """Call in several threads at once; return what they returned, or raised."""
    results, ready = [], threading.Barrier(count)

    def run():
        ready.wait(TIMEOUT)
        try:
            results.append(call())
        except Exception as error:
            results.append(error)

    threads = [threading.Thread(target=run) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results


def test_each_of_several_threads_that_start_a_hub_returns_when_it_listens(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)

    assert together(4, lambda: hub.start().status()["state"]) == ["listening"] * 4
    hub.stop()


def test_each_of_several_threads_whose_start_fails_is_told(orders, registry, heard):
    registry.listen("bills", "after_insert", heard)
    hub = Hub(orders.url, registry)

    assert {type(result) for result in together(4, hub.start)} == {UsageError}
    assert hub.status()["state"] == "stopped"


def test_threads_that_poll_take_turns(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    hub.poll()

    def poll():
        insert(orders, "tea")
        return sum(hub.poll(0.05) for _ in range(5))

    handled = together(3, poll)
    assert sum(handled) + hub.poll() == 3
    assert len({event.id for event in heard.take(3)}) == 3
    hub.stop()


@pytest.mark.parametrize("timeout", [None, "1", -1, float("nan"), float("inf")], ids=str)
def test_a_timeout_is_a_number_of_seconds(orders, registry, timeout):
    hub = Hub(orders.url, registry)
    for call in (hub.start, hub.poll, hub.stop, hub.drain, hub.wait_ready):
        with pytest.raises(UsageError, match="timeout"):
            call(timeout=timeout)
    assert hub.status()["state"] == "stopped"


def test_an_idle_hub_stops_without_any_time_left(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry).start()

    assert hub.stop(timeout=0) == 0
    assert hub.stop() == 0


def test_a_hub_s_repr_tells_its_database_and_its_state(orders, registry):
    hub = Hub(orders.url, registry)
    before = repr(hub)
    with hub:
        during = repr(hub)

    if orders.kind == "sqlite":
        assert before == "<Hub {} stopped>".format(orders.url)
    else:
        assert before.startswith("<Hub postgresql://") and orders.name in before
    assert during == before.replace("stopped", "listening")


@pytest.mark.parametrize(
    "url, words",
    [
        (
            "postgresql://shop:secret@db.example.com:5433/shop",
            "postgresql://shop@db.example.com/shop",
        ),
        ("postgresql+psycopg://shop:secret@db/shop", "postgresql://shop@db/shop"),
        ("postgresql:///shop?host=db&password=secret", "postgresql:///shop"),
        ("postgresql+psycopg2://", "postgresql:///"),
        ("postgresql://shop%3Asecret@db/shop", "postgresql://…@db/shop"),
        ("postgresql://sh/op:secret@db/shop", "postgresql://sh/…"),
        ("postgresql:///host=db password=secret", "postgresql:///…"),
    ],
)
def test_a_hub_s_repr_tells_no_password(url, words):
    assert reprs(url) == ["<Hub {} stopped>".format(words)] * 3


def test_a_hub_s_repr_tells_no_password_with_a_sign_that_ends_one():
    told = reprs("postgresql://shop:secret@secret@db/shop")

    # Some releases of SQLAlchemy end the password at the first @, others at the last.
    hosts = ("…", "db")
    assert {*told} <= {"<Hub postgresql://shop@{}/shop stopped>".format(host) for host in hosts}


def reprs(url):
    parsed = sqlalchemy.engine.make_url(url)
    binds = [url, parsed, sqlalchemy.create_engine(parsed.set(drivername="postgresql+psycopg2"))]
    return [repr(Hub(bind, Registry())) for bind in binds]


def test_start_gives_up_in_time_and_names_the_lock_that_it_waited_for(
    orders, registry, heard, caplog
):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    writer = orders.connect()
    writer.cursor().execute("INSERT INTO orders (item) VALUES ('open')")
    begun = time.monotonic()

    with pytest.raises(Unavailable) as caught:
        hub.start(timeout=1)
    took = time.monotonic() - begun
    writer.commit()
    hub.install()

    what = "the SQLite file" if orders.kind == "sqlite" else "public.orders"
    (named,) = re.findall(r"no lock on {} for (\d\.\d) s".format(what), str(caught.value))
    assert 0 < float(named) <= round(took, 1)
    assert 0.5 < took < 2
    assert "not handled" not in caplog.text
    assert hub.status()["state"] == "stopped"
    with hub:
        insert(orders, "tea")
        assert items([heard.next()]) == ["tea"]


def test_a_start_with_time_waits_for_a_writer(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    writer = orders.connect()
    writer.cursor().execute("INSERT INTO orders (item) VALUES ('open')")
    end = threading.Timer(0.5, writer.commit)
    end.start()

    with Hub(orders.url, registry):
        end.join()
        insert(orders, "tea")
        assert items([heard.next()]) == ["tea"]


def test_stop_does_not_blame_an_idle_listener_for_a_source_that_takes_long(
    orders, registry, heard, caplog, monkeypatch
):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry).start()
    monkeypatch.setattr(hub._life.source, "join", lambda deadline: time.sleep(0.3))

    left = hub.stop(timeout=0.2)

    assert left == 0
    assert "not handled" not in caplog.text
