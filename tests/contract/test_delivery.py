"""How listeners are called, on every database."""

import functools
import threading
import unittest.mock

import pytest
from sqlalchemy import event as sqlalchemy_event

import pgevents
from pgevents import ANY, Hub, Retry, UsageError, signals

from ..orders import insert, items
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


def test_one_that_raises_is_called_again_and_then_reported_and_the_other_hears(
    orders, registry, heard
):
    order, told = [], []

    def broken(event):
        order.append("broken")
        raise ValueError("no")

    def good(event):
        order.append("good")
        heard(event)

    def tell(hub, **details):
        told.append(details)

    registry.listen("orders", "after_insert", broken)
    registry.listen("orders", "after_insert", good)
    hub = Hub(orders.url, registry, retry=Retry(attempts=3, first=0.001, longest=0.002))
    signals.listener_failed.connect(tell, sender=hub)
    with hub:
        insert(orders, "a", "b")
        heard.take(2)
        assert hub.drain(TIMEOUT)

    # Who failed for the event before gets one call only.
    assert order == ["broken"] * 3 + ["good"] + ["broken", "good"]
    assert [detail["listener"] for detail in told] == [broken, broken]
    assert items(told[0]["events"]) == ["a"]


def test_the_log_names_the_listener_and_the_table_and_nothing_of_the_row(orders, registry, caplog):
    def broken(event):
        raise ValueError("no")

    registry.listen("orders", "after_insert", broken)
    with Hub(orders.url, registry, retry=Retry(attempts=2, first=0.001)) as hub:
        insert(orders, "secret")
        assert hub.drain(TIMEOUT)

    again, failed = [r.getMessage() for r in caplog.records if "broken" in r.getMessage()]
    assert "orders, trying again" in again
    assert "orders (1 in all), which it will not get again" in failed
    assert "secret" not in caplog.text


class TimeLimit(BaseException):
    """What gevent, pytest and others raise is no Exception either."""


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, TimeLimit])
@pytest.mark.parametrize("place", ["listener", "where", "group"])
def test_what_is_no_exception_ends_no_thread(orders, registry, heard, place, kind):
    def leave(event):
        raise kind(1)

    if place == "where":
        registry.listen("orders", "after_insert", print, where=leave)
    else:
        registry.listen(
            "orders", "after_insert", leave, group="leavers" if place == "group" else None
        )
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry, retry=Retry(attempts=1))
    hub.group("leavers", max_attempts=1)
    with hub:
        insert(orders, "a", "b")
        events = heard.take(2)
        if place == "group":
            wait_for(lambda: len(hub.group("leavers").dead_letters()) == 2)

    assert items(events) == ["a", "b"]


def test_ctrl_c_in_a_listener_that_poll_calls_ends_poll(orders, registry):
    def interrupted(event):
        raise KeyboardInterrupt()

    registry.listen("orders", "after_insert", interrupted)
    hub = Hub(orders.url, registry)
    hub.poll()
    insert(orders, "a")
    with pytest.raises(KeyboardInterrupt):
        hub.poll(TIMEOUT)
    hub.stop()


def test_a_receiver_of_a_signal_that_raises_disturbs_nobody(orders, registry, heard):
    def broken(hub, **details):
        raise ValueError("no")

    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    signals.connected.connect(broken, sender=hub)
    with hub:
        insert(orders, "a")
        event = heard.next()

    assert event.new["item"] == "a"


def test_a_listener_may_register_and_remove_and_stop_from_inside(orders, registry, heard):
    def first(event):
        registry.remove("orders", "after_insert", first)
        registry.listen("orders", "after_insert", second)

    def second(event):
        heard(event)
        hub.stop()

    registry.listen("orders", "after_insert", first)
    hub = Hub(orders.url, registry)
    hub.start()
    insert(orders, "a")
    assert hub.drain(TIMEOUT)
    insert(orders, "b")
    event = heard.next()
    hub.stop()

    assert event.new["item"] == "b"
    assert hub.status()["state"] == "stopped"


def test_a_function_may_be_registered_while_the_hub_runs(orders, registry, heard):
    with Hub(orders.url, registry):
        registry.listen("orders", "after_insert", heard)
        insert(orders, "a")
        event = heard.next()

    assert event.new["item"] == "a"


def test_a_row_that_is_written_while_the_reader_passes_over_others_reaches_a_new_listener(
    orders, registry, heard, monkeypatch
):
    hub = Hub(orders.url, registry)
    hub.watch("orders")
    with hub:
        reader = hub._life.source.reader
        skim = reader.skim

        def late():
            if not registry.contains("orders", "after_insert", heard):
                registry.listen("orders", "after_insert", heard)
                insert(orders, "a")
            return skim()

        monkeypatch.setattr(reader, "skim", late)
        insert(orders, "of nobody")
        wait_for(lambda: "a" in items(heard.events))


def test_once_is_called_for_the_first_event_only(orders, registry, heard):
    calls = []
    registry.listen("orders", "after_insert", calls.append, once=True)
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry) as hub:
        insert(orders, "a", "b")
        heard.take(2)
        assert hub.drain(TIMEOUT)

    assert items(calls) == ["a"]
    assert not registry.contains("orders", "after_insert", calls.append)


def test_batch_gets_lists(orders, registry):
    lists = []
    registry.listen("orders", "after_insert", lists.append, batch=True)
    with Hub(orders.url, registry) as hub:
        writer = orders.connect()
        mark = "?" if orders.kind == "sqlite" else "%s"
        writer.cursor().executemany(
            "INSERT INTO orders (item) VALUES ({})".format(mark), [(str(n),) for n in range(100)]
        )
        writer.commit()
        assert hub.drain(TIMEOUT)

    assert [item for batch in lists for item in items(batch)] == [str(n) for n in range(100)]
    assert len(lists) < 100


def test_columns_and_where_choose(orders, registry, heard):
    paid, none, called = [], [], []
    registry.listen(
        "orders", "after_update", paid.append, columns=["status"], where={"status": "paid"}
    )
    registry.listen("orders", "after_update", none.append, where={"status": None})
    registry.listen("orders", "after_update", called.append, where=lambda e: e.new["item"] == "b")
    with Hub(orders.url, registry) as hub:
        insert(orders, "a", "b")
        orders.execute("UPDATE orders SET item = item, status = 'paid' WHERE item = 'a'")
        orders.execute("UPDATE orders SET item = 'b', status = 'None' WHERE item = 'a'")
        orders.execute("UPDATE orders SET status = NULL WHERE id = 2")
        assert hub.drain(TIMEOUT)

    assert [e.key for e in paid] == [1]
    assert [e.key for e in none] == [2]
    assert [e.key for e in called] == [1, 2]


def test_a_where_that_raises_is_a_listener_that_failed(orders, registry, heard):
    told = []

    def tell(hub, **details):
        told.append(details["error"])

    registry.listen("orders", "after_insert", print, where=lambda event: event.new["no"])
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    signals.listener_failed.connect(tell, sender=hub)
    with hub:
        insert(orders, "a")
        heard.next()

    assert isinstance(told[0], KeyError)


def test_any_hears_every_captured_table(orders, registry, heard):
    orders.execute("CREATE TABLE customers (id integer PRIMARY KEY)")
    registry.listen(ANY, "after_insert", heard)
    hub = Hub(orders.url, registry)
    hub.watch("orders")
    hub.watch("customers")
    with hub:
        insert(orders, "a")
        orders.execute("INSERT INTO customers VALUES (7)")
        events = heard.take(2)

    assert [(event.table, event.key) for event in events] == [("orders", 1), ("customers", 7)]


def test_several_workers_keep_the_order_of_each_row(orders, registry):
    lock, by_key = threading.Lock(), {}

    def keep(event):
        key = event.key
        with lock:
            by_key.setdefault(key, []).append(event.new["item"])

    registry.listen("orders", "after_update", keep)
    insert(orders, *"abcdefgh")
    with Hub(orders.url, registry, workers=4) as hub:
        for number in range(30):
            orders.execute("UPDATE orders SET item = %s WHERE id <= 8", str(number))
        orders.execute("UPDATE orders SET id = 100, item = 'moved' WHERE id = 8")
        orders.execute("UPDATE orders SET item = 'last' WHERE id = 100")
        assert hub.drain(TIMEOUT)

    assert by_key.pop(100) == ["moved", "last"]
    assert by_key == {key: [str(n) for n in range(30)] for key in range(1, 9)}


def test_a_slow_listener_fills_the_queue_and_nothing_is_lost(orders, registry, heard):
    go_on, told = threading.Event(), threading.Event()

    def slow(event):
        assert go_on.wait(TIMEOUT)
        heard(event)

    def tell(hub, seconds):
        told.set()

    registry.listen("orders", "after_insert", slow)
    hub = Hub(orders.url, registry, queue_size=10, behind_after=0.1)
    signals.fallen_behind.connect(tell, sender=hub)
    with hub:
        writer = orders.connect()
        mark = "?" if orders.kind == "sqlite" else "%s"
        writer.cursor().executemany(
            "INSERT INTO orders (item) VALUES ({})".format(mark), [(str(n),) for n in range(2000)]
        )
        writer.commit()
        assert told.wait(TIMEOUT)
        waiting = hub.status()["waiting"]
        go_on.set()
        events = heard.take(2000, TIMEOUT)

    assert waiting <= 10
    assert items(events) == [str(n) for n in range(2000)]


def test_stop_says_what_was_left(orders, registry):
    began, go_on = threading.Event(), threading.Event()

    def slow(event):
        began.set()
        assert go_on.wait(TIMEOUT)

    registry.listen("orders", "after_insert", slow)
    hub = Hub(orders.url, registry)
    assert hub.stop() == 0
    hub.start()
    insert(orders, "a")
    assert began.wait(TIMEOUT)
    left = hub.stop(timeout=0.1)
    go_on.set()

    assert left >= 1
    assert hub.stop() == 0


def test_a_hub_starts_again_after_stop(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry)
    with hub:
        assert hub.start() is hub
        assert hub.wait_ready(1)
        insert(orders, "a")
        heard.next()
    insert(orders, "nobody listens")
    with hub:
        insert(orders, "b")
        event = heard.next()

    assert event.new["item"] == "b"


def test_poll_needs_no_threads(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    before = threading.active_count()
    hub = Hub(orders.url, registry)
    first = hub.poll()
    insert(orders, "a", "b")
    handled = hub.poll(TIMEOUT)
    threads = threading.active_count()
    hub.stop()

    assert (first, handled, threads) == (0, 2, before)
    assert items(heard.rest()) == ["a", "b"]


def test_sqlalchemy_s_own_verbs_behave_as_they_do(orders, registry, heard):
    once = []
    changes = pgevents.changes("orders", registry)

    @sqlalchemy_event.listens_for(changes, "after_insert")
    def listener(change):
        heard(change)

    sqlalchemy_event.listen(changes, "after_change", once.append, once=True)
    with Hub(orders.url, registry) as hub:
        insert(orders, "a", "b")
        events = heard.take(2)
        contained = sqlalchemy_event.contains(changes, "after_insert", listener)
        sqlalchemy_event.remove(changes, "after_insert", listener)
        insert(orders, "c")
        assert hub.drain(TIMEOUT)

    assert items(events) == ["a", "b"]
    assert contained and not sqlalchemy_event.contains(changes, "after_insert", listener)
    assert items(once) == ["a"]
    assert heard.rest() == []
    assert pgevents.changes("orders", registry) is changes


@pytest.mark.parametrize(
    "call, words",
    [
        (lambda r: r.listen("orders", "before_insert", print), ["before_insert", "after_insert"]),
        (lambda r: r.listens_for("orders"), ["no moment"]),
        (lambda r: r.listen(int, "after_insert", print), ["int", "mapped class"]),
        (lambda r: r.listen("a.b.c", "after_insert", print), ["a.b.c"]),
        (lambda r: r.listen("orders", "after_insert", 7), ["7"]),
        (lambda r: r.listen("orders", "after_insert", print, where=3), ["where=3"]),
        (lambda r: r.remove("orders", "after_insert", print), ["print"]),
    ],
)
def test_a_wrong_registration_is_refused_at_once(registry, call, words):
    with pytest.raises(UsageError) as caught:
        call(registry)

    assert all(word in str(caught.value) for word in words)


async def asynchronous(event):
    pass


def generator(event):
    yield event


async def asynchronous_generator(event):
    yield event


class Asynchronous:
    async def __call__(self, event):
        pass


@pytest.mark.parametrize(
    "fn",
    [
        asynchronous,
        generator,
        asynchronous_generator,
        Asynchronous(),
        functools.partial(asynchronous),
    ],
    ids=["async", "generator", "async generator", "object", "partial"],
)
def test_a_function_that_a_call_would_not_run_is_refused(registry, fn):
    with pytest.raises(UsageError, match="asynchronous"):
        registry.listen("orders", "after_insert", fn)


def nothing():
    pass


def two(event, connection):
    pass


def named(*, event):
    pass


@pytest.mark.parametrize(
    "fn, options, words",
    [
        (nothing, {}, ["nothing", "one argument, the event"]),
        (two, {}, ["two(event, connection)", "one argument, the event"]),
        (named, {}, ["named(*, event)", "one argument, the event"]),
        (nothing, {"batch": True}, ["nothing()", "one argument, a list of events"]),
        (
            lambda event: None,
            {"group": "g", "transactional": True},
            ["(event)", "two arguments, the event and a connection"],
        ),
    ],
    ids=["none", "two", "by name only", "batch", "transactional"],
)
def test_a_function_that_cannot_take_what_it_is_called_with_is_refused(
    registry, fn, options, words
):
    with pytest.raises(UsageError) as caught:
        registry.listen("orders", "after_insert", fn, **options)

    assert all(word in str(caught.value) for word in words)
    assert not registry.contains("orders", "after_insert", fn)


def test_sqlalchemy_s_listen_refuses_it_too(registry):
    changes = pgevents.changes("orders", registry)

    with pytest.raises(UsageError, match="one argument, the event"):
        sqlalchemy_event.listen(changes, "after_insert", two)
    sqlalchemy_event.listen(changes, "after_insert", lambda **kw: None, named=True)

    assert not sqlalchemy_event.contains(changes, "after_insert", two)


def given_more(fn):
    """Decorate as many do: the wrapper takes other arguments than what it wraps."""

    @functools.wraps(fn)
    def wrapper(event):
        return fn(event, "more")

    return wrapper


class Kept:
    def __init__(self, event):
        self.event = event

    def method(self, event):
        pass

    def __call__(self, event, more=None):
        pass


class WithoutSignature:
    @property
    def __signature__(self):
        raise NameError("an annotation that is not imported")

    def __call__(self, event):
        pass


@pytest.mark.parametrize(
    "fn",
    [
        print,
        [].append,
        unittest.mock.Mock(),
        unittest.mock.create_autospec(Kept(None)),
        Kept,
        Kept(None),
        Kept(None).method,
        functools.partial(two, connection=None),
        given_more(two),
        dict,
        WithoutSignature(),
        functools.partial(print, end=""),
        lambda event, /, *more, **others: None,
    ],
)
def test_whatever_can_be_called_with_an_event_is_taken(registry, fn):
    registry.listen("orders", "after_insert", fn)

    assert registry.contains("orders", "after_insert", fn)


def test_an_unknown_column_or_table_is_named_at_start(orders, registry):
    registry.listen("orders", "after_update", print, columns=["statsu"])
    with pytest.raises(UsageError, match="statsu.*status"):
        Hub(orders.url, registry).start()

    registry.remove("orders", "after_update", print)
    registry.listen("ordesr", "after_update", print)
    with pytest.raises(UsageError, match="ordesr.*orders"):
        Hub(orders.url, registry).start()


@pytest.mark.parametrize("bind", ["mysql://x/y", "nonsense", 7, "sqlite://", "sqlite:///:memory:"])
def test_what_is_no_database_of_ours_is_refused(bind):
    with pytest.raises(UsageError):
        Hub(bind)


@pytest.mark.parametrize(
    "option",
    [
        {"workers": 0},
        {"workers": 1.5},
        {"workers": True},
        {"queue_size": 2.5},
        {"retention": "1"},
        {"retention": float("nan")},
        {"group_retention": "x"},
        {"behind_after": "x"},
        {"poll_interval": 0},
        {"retry": 3},
        {"registry": 7},
        {"bell": "off"},
        {"service": ""},
        {"service": None},
        {"service": "a\0"},
    ],
    ids=str,
)
def test_an_option_that_cannot_be_is_named(option):
    with pytest.raises(UsageError, match="".join(option) + "|NUL"):
        Hub("sqlite:///shop.db", **option)
