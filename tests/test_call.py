"""One call of a listener, and what is put around it; without a database."""

import contextlib
import threading

import pytest

from pgevents import Retry, UsageError, signals
from pgevents.delivery.around import Around
from pgevents.delivery.call import call
from pgevents.listening.table_listener import TableListener
from pgevents.testing import FakeHub

ROW = {"id": 1, "item": "tea"}


@pytest.fixture
def hub(registry):
    return FakeHub(registry)


class Trail:
    """Remembers what is entered, called and left, in order."""

    def __init__(self):
        self.steps = []

    def around(self, name):
        @contextlib.contextmanager
        def factory(listener, events):
            self.steps.append("enter {}".format(name))
            try:
                yield
            finally:
                self.steps.append("leave {}".format(name))

        return factory

    def listener(self, event):
        self.steps.append("call")


@pytest.fixture
def trail():
    return Trail()


def suppressing(listener, events):
    return contextlib.suppress(Exception)


@contextlib.contextmanager
def broken(listener, events):
    raise LookupError("no application")
    yield


def one_call(fn, *factories, **options):
    around = Around()
    for factory in factories:
        around.add(factory)
    return call(
        TableListener(fn, "orders", **options), [] if options else "event", around, "connection"
    )


# The outcome


def test_the_outcome_of_a_call_is_what_the_listener_raised():
    def refuse(event):
        raise ValueError(event)

    assert one_call(lambda event: None).returned
    assert not one_call(refuse).returned
    assert repr(one_call(refuse).error) == "ValueError('event')"


@pytest.mark.parametrize("kind", [SystemExit, GeneratorExit, KeyboardInterrupt])
@pytest.mark.parametrize("factories", [(), (Trail().around("a"),)], ids=["bare", "around"])
def test_nothing_that_a_listener_raises_ends_a_thread(kind, factories):
    outcomes = []

    def leave(event):
        raise kind()

    thread = threading.Thread(target=lambda: outcomes.append(one_call(leave, *factories)))
    thread.start()
    thread.join()

    assert [type(outcome.error) for outcome in outcomes] == [kind]


def test_ctrl_c_in_the_main_thread_is_for_the_program():
    def interrupt(event):
        raise KeyboardInterrupt()

    with pytest.raises(KeyboardInterrupt):
        one_call(interrupt)


def test_a_transactional_listener_gets_its_connection_within_what_is_around_it(trail):
    got = []

    outcome = one_call(
        lambda event, connection: got.append(connection),
        trail.around("a"),
        group="stock",
        transactional=True,
    )

    assert outcome.returned
    assert got == ["connection"]
    assert trail.steps == ["enter a", "leave a"]


# Around


def test_the_first_one_is_outermost_and_the_same_one_counts_once(hub, registry, trail):
    outer = hub.around(trail.around("outer"))
    hub.around(trail.around("inner"))
    hub.around(outer)
    registry.listen("orders", "after_insert", trail.listener)

    hub.insert("orders", ROW)

    assert trail.steps == ["enter outer", "enter inner", "call", "leave inner", "leave outer"]


def test_it_gets_the_listener_and_its_events(hub, registry, heard):
    given = []

    def factory(listener, events):
        given.append((listener, [event.key for event in events]))
        return contextlib.nullcontext()

    batch = []
    registry.listen("orders", "after_insert", heard)
    registry.listen("orders", "after_insert", batch.append, batch=True)
    hub.around(factory)
    hub.insert("orders", {"id": 1}, {"id": 2})

    assert given == [(heard, [1]), (heard, [2]), (batch.append, [1, 2])]


def test_it_gets_the_function_of_a_transactional_listener_too(registry):
    given, got = [], []

    def reserve(event, connection):
        got.append(connection)

    def factory(listener, events):
        given.append(listener)
        return contextlib.nullcontext()

    registry.listen("orders", "after_insert", reserve, group="stock", transactional=True)
    hub = FakeHub(registry, connection="connection")
    hub.around(factory)
    hub.insert("orders", ROW)

    assert (given, got) == ([reserve], ["connection"])


def test_a_transactional_listener_that_raises_is_the_one_that_is_reported(registry):
    told = []

    def reserve(event, connection):
        raise ValueError("no")

    def tell(hub, listener, events, error):
        told.append(listener)

    registry.listen("orders", "after_insert", reserve, group="stock", transactional=True)
    hub = FakeHub(registry)
    with signals.listener_failed.connected_to(tell, sender=hub):
        with pytest.raises(ValueError):
            hub.insert("orders", ROW)

    assert told == [reserve]


def test_each_attempt_has_a_context_of_its_own(registry, trail):
    hub = FakeHub(registry, retry=Retry(attempts=2, first=0.001))
    hub.around(trail.around("a"))

    def refuse(event):
        trail.steps.append("call")
        raise ValueError("no")

    registry.listen("orders", "after_insert", refuse)
    with pytest.raises(ValueError):
        hub.insert("orders", ROW)

    assert trail.steps == ["enter a", "call", "leave a"] * 2


def test_its_error_counts_as_the_listeners(hub, registry, heard):
    told = []

    def tell(hub, listener, events, error):
        told.append((listener, type(error)))

    registry.listen("orders", "after_insert", heard)
    hub.around(broken)
    with signals.listener_failed.connected_to(tell, sender=hub):
        with pytest.raises(LookupError):
            hub.insert("orders", ROW)

    assert heard.rest() == []
    assert told == [(heard, LookupError)]


def test_a_listeners_error_that_it_suppresses_is_none(hub, registry):
    def refuse(event):
        raise ValueError("no")

    registry.listen("orders", "after_insert", refuse)
    hub.around(suppressing)

    assert len(hub.insert("orders", ROW)) == 1


def test_one_that_suppresses_anothers_error_keeps_no_event_back_in_silence(heard):
    outcome = one_call(heard, suppressing, broken)

    assert isinstance(outcome.error, UsageError)
    assert "was not called" in str(outcome.error)
    assert heard.rest() == []


def test_what_is_no_context_manager_is_an_error_of_the_call():
    outcome = one_call(print, lambda listener, events: 5)

    assert isinstance(outcome.error, UsageError)
    assert "returned 5: return a context manager" in str(outcome.error)


def generator(listener, events):
    yield


@contextlib.contextmanager
def no_arguments():
    yield


async def asynchronous(listener, events):
    pass


@pytest.mark.parametrize(
    "factory, says",
    [
        (5, "cannot call 5"),
        (contextlib.nullcontext(), "cannot call"),
        (lambda: None, "has to take two arguments"),
        (no_arguments, "no_arguments() has to take two arguments"),
        (generator, "decorate it with contextlib.contextmanager"),
        (asynchronous, "give a plain function"),
    ],
    ids=["number", "manager", "lambda", "no arguments", "generator", "async"],
)
def test_what_cannot_be_called_for_a_context_manager_is_refused_at_once(hub, factory, says):
    with pytest.raises(UsageError) as refused:
        hub.around(factory)

    assert says in str(refused.value)
