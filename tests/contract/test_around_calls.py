"""Hub.around(): context managers around each call of a listener, on every database."""

import contextlib
import threading

import pytest
import sqlalchemy

from pgevents import Hub, Retry, signals

from ..orders import insert
from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


class Application:
    """As a web framework has it: only within its context its things are to be had."""

    def __init__(self):
        self.contexts = []  # thread, listener, number of events
        self._inside = threading.local()

    @contextlib.contextmanager
    def context(self, listener, events):
        self.contexts.append((threading.current_thread().name, listener, len(events)))
        self._inside.it = self
        try:
            yield
        finally:
            del self._inside.it

    @property
    def current(self):
        return getattr(self._inside, "it", None)


@pytest.fixture
def app():
    return Application()


def plain(heard, app):
    def listen(event):
        assert app.current
        heard(event)

    return listen


OPTIONS = {
    "plain": {},
    "batch": {"batch": True},
    "group": {"group": "mailer"},
    "batch of a group": {"group": "mailer", "batch": True},
    "transactional": {"group": "mailer", "transactional": True},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_each_listener_is_called_within_it(orders, registry, heard, app, options):
    def listen(given, *connection):
        assert app.current and len(connection) == ("transactional" in options)
        for event in given if "batch" in options else [given]:
            heard(event)

    def transactional(event, connection):
        listen(event, connection)

    fn = transactional if "transactional" in options else lambda event: listen(event)
    registry.listen("orders", "after_insert", fn, **options)
    hub = Hub(orders.url, registry)
    hub.around(app.context)
    with hub:
        insert(orders, "tea", "milk", "salt")
        heard.take(3, TIMEOUT)
        assert hub.drain(TIMEOUT)
        failed = hub.status()["failed"]

    assert failed == 0
    assert {listener for _, listener, _ in app.contexts} == {fn}
    assert sum(number for _, _, number in app.contexts) == 3


def test_listeners_in_several_lanes_are_called_within_one_each(orders, registry, heard, app):
    registry.listen("orders", "after_insert", plain(heard, app))
    hub = Hub(orders.url, registry, workers=4)
    hub.around(app.context)
    with hub:
        insert(orders, *map(str, range(40)))
        heard.take(40, TIMEOUT)

    assert len(app.contexts) == 40
    assert len({thread for thread, _, _ in app.contexts}) > 1


def test_poll_calls_listeners_within_it_in_its_own_thread(orders, registry, heard, app):
    listener = plain(heard, app)
    registry.listen("orders", "after_insert", listener)
    hub = Hub(orders.url, registry)
    hub.around(app.context)
    hub.poll()
    insert(orders, "tea")

    assert hub.poll(TIMEOUT) == 1
    assert heard.next().new["item"] == "tea"
    assert app.contexts == [(threading.current_thread().name, listener, 1)]
    hub.stop()


def test_one_added_while_the_hub_runs_counts_from_the_next_call_on(orders, registry, heard, app):
    seen = []

    def listen(event):
        seen.append(app.current)
        heard(event)

    registry.listen("orders", "after_insert", listen)
    with Hub(orders.url, registry) as hub:
        insert(orders, "tea")
        heard.next(TIMEOUT)
        hub.around(app.context)
        insert(orders, "milk")
        heard.next(TIMEOUT)

    assert seen == [None, app]


def fail_once(errors):
    """Raise when it is entered for the first time."""

    @contextlib.contextmanager
    def factory(listener, events):
        if not errors:
            errors.append(LookupError("no application yet"))
            raise errors[0]
        yield

    return factory


@pytest.mark.parametrize("options", OPTIONS.values(), ids=list(OPTIONS))
def test_a_call_whose_context_raises_is_made_again(orders, registry, options):
    heard, errors = [], []

    def transactional(event, connection):
        heard.append(event)

    def listen(given):
        heard.extend(given if "batch" in options else [given])

    fn = transactional if "transactional" in options else listen
    registry.listen("orders", "after_insert", fn, **options)
    hub = Hub(orders.url, registry, retry=Retry(3, 0.001))
    hub.group("mailer", backoff=(0.01, 0.02))
    hub.around(fail_once(errors))
    with hub:
        insert(orders, "tea")
        wait_for(lambda: heard, TIMEOUT)
        wait_for(lambda: hub.status()["delivered"], TIMEOUT)
        status = hub.status()

    assert len(errors) == 1
    assert [event.new["item"] for event in heard] == ["tea"]
    assert (status["retried"], status["failed"]) == (1, 0)


def test_what_a_transactional_listener_wrote_is_taken_back_if_its_context_raises(orders, registry):
    orders.execute("CREATE TABLE effects (item text)")

    @contextlib.contextmanager
    def factory(listener, events):
        yield
        raise LookupError("the application has gone")

    def write(event, connection):
        connection.execute(sqlalchemy.text("INSERT INTO effects VALUES ('tea')"))

    registry.listen("orders", "after_insert", write, group="stock", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("stock", max_attempts=2, backoff=(0.01, 0.02))
    hub.around(factory)
    with hub:
        insert(orders, "tea")
        wait_for(group.dead_letters, TIMEOUT)
        (letter,) = group.dead_letters()

    assert (letter.attempts, letter.error) == (2, "LookupError('the application has gone')")
    assert orders.execute("SELECT item FROM effects") == []


def test_a_context_that_always_raises_is_reported_as_the_listeners_failure(orders, registry, heard):
    told = []

    @contextlib.contextmanager
    def broken(listener, events):
        raise LookupError("no application")
        yield

    def tell(hub, listener, events, error):
        told.append((listener, [event.new["item"] for event in events], repr(error)))

    registry.listen("orders", "after_insert", heard)
    hub = Hub(orders.url, registry, retry=Retry(2, 0.001))
    hub.around(broken)
    with hub, signals.listener_failed.connected_to(tell, sender=hub):
        insert(orders, "tea")
        wait_for(lambda: told, TIMEOUT)

    assert told == [(heard, ["tea"], "LookupError('no application')")]
    assert heard.rest() == []
