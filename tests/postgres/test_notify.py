"""PostgreSQL's own notifications: sent, received, and what happens to them."""

import threading

import pytest
from sqlalchemy.orm import Session

from pgevents import Hub, Notification, Registry, UsageError

from ..waiting import wait_for

TIMEOUT = 20.0  # seconds


@pytest.fixture
def hub(postgres):
    with Hub(postgres.url, Registry()) as hub:
        yield hub


def heard_by(hub, *channels):
    found = []
    for channel in channels:
        hub.on_notify(channel)(found.append)
    return found


def texts(found):
    return [(one.channel, one.payload) for one in found]


def test_a_notification_is_received_with_its_channel_payload_and_sender(postgres, hub):
    found = heard_by(hub, "legacy")
    connection = postgres.connect()
    connection.cursor().execute("NOTIFY legacy, 'hello'; NOTIFY legacy")
    connection.commit()

    wait_for(lambda: len(found) == 2, TIMEOUT)
    assert texts(found) == [("legacy", "hello"), ("legacy", "")]
    assert {one.pid for one in found} == {connection.info.backend_pid}
    assert isinstance(found[0], Notification)


@pytest.mark.parametrize(
    "channel", ["Orders", "a b", "it's", '"', "%s", "ünï", "x" * 63, "é" * 31, "a.b", "select"]
)
def test_a_channel_may_have_any_name_that_postgresql_keeps(hub, channel):
    found = heard_by(hub, channel)

    hub.notify(channel, "é'%s\"")

    wait_for(lambda: found, TIMEOUT)
    assert texts(found) == [(channel, "é'%s\"")]


@pytest.mark.parametrize("channel", ["", None, "x" * 64, "é" * 32, "a\0", "pgevents_1"])
def test_a_channel_that_postgresql_would_cut_or_refuse_is_an_error(hub, channel):
    for call in (lambda: hub.notify(channel, "x"), lambda: hub.on_notify(channel)(print)):
        with pytest.raises(UsageError):
            call()


@pytest.mark.parametrize(
    "payload, said",
    [("x" * 8000, "publish"), ("é" * 4000, "8000 bytes"), (7, "text"), ("a\0", "NUL")],
)
def test_a_payload_that_does_not_fit_is_refused_before_the_database_is_asked(payload, said):
    with pytest.raises(UsageError, match=said):
        Hub("postgresql://nobody@127.0.0.1:1/nothing", Registry()).notify("a", payload)


def test_the_largest_payload_arrives(hub):
    found = heard_by(hub, "a")

    hub.notify("a", "x" * 7999)

    wait_for(lambda: found, TIMEOUT)
    assert found[0].payload == "x" * 7999


def test_a_notification_belongs_to_the_transaction_of_the_caller(postgres, hub):
    found = heard_by(hub, "a")
    with Session(postgres.engine()) as session:
        hub.notify("a", "taken back", bind=session)
        session.rollback()
        hub.notify("a", "kept", bind=session)
        session.commit()

    wait_for(lambda: found, TIMEOUT)
    assert texts(found) == [("a", "kept")]


def test_who_listens_before_the_start_is_there_from_the_start(postgres):
    hub = Hub(postgres.url, Registry())
    found = heard_by(hub, "a")
    with hub:
        assert hub.status()["notifications"] == ["a"]
        hub.notify("a", "x")
        wait_for(lambda: found, TIMEOUT)


def test_all_listeners_are_called_though_one_raises_and_one_leaves(hub):
    def fails(notification):
        raise ValueError

    hub.on_notify("a")(fails)
    stays, leaves = heard_by(hub, "a"), heard_by(hub, "a", "b")
    hub.off_notify(leaves.append)
    hub.notify("b", "nobody")
    hub.notify("a", "x")

    wait_for(lambda: stays, TIMEOUT)
    assert texts(stays) == [("a", "x")] and leaves == []
    assert hub.status()["notifications"] == ["a"]
    with pytest.raises(UsageError, match="listens to no channel"):
        hub.off_notify(leaves.append)


def test_the_last_listener_takes_the_listen_along(postgres, hub):
    found = heard_by(hub, "a", "b")
    hub.off_notify(found.append)
    kept = heard_by(hub, "b")

    for channel in ("a", "b"):
        hub.notify(channel, "x")

    wait_for(lambda: kept, TIMEOUT)
    assert found == [] and hub.status()["notifications"] == ["b"]


def test_after_a_reconnect_the_channels_are_listened_to_and_a_gap_is_reported(postgres, hub, gaps):
    found = heard_by(hub, "a")
    connects = hub.status()["connects"]
    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    wait_for(lambda: hub.status()["connects"] > connects, TIMEOUT)
    wait_for(lambda: any("notifications of a" in gap for gap in gaps), TIMEOUT)

    hub.notify("a", "after")
    wait_for(lambda: found, TIMEOUT)
    assert texts(found) == [("a", "after")]


def test_threads_may_begin_and_end_to_listen_at_the_same_time(hub):
    stays = heard_by(hub, "stays")
    errors = []

    def come_and_go(number):
        try:
            for _ in range(10):
                found = []
                hub.on_notify(f"c{number}")(found.append)
                hub.notify(f"c{number}", "x")
                wait_for(lambda: found, TIMEOUT)
                hub.off_notify(found.append)
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=come_and_go, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    hub.notify("stays", "x")
    wait_for(lambda: stays, TIMEOUT)
    assert errors == [] and hub.status()["notifications"] == ["stays"]


def test_a_burst_arrives_whole_and_in_order_beside_events(postgres, hub, registry):
    found, events = heard_by(hub, "a"), []
    hub.subscribe("news")(events.append)
    postgres.execute(
        "SELECT pg_notify('a', n::text), pgevents.publish('news', to_json(n))"
        " FROM generate_series(1, 3000) n"
    )

    wait_for(lambda: len(found) == len(events) == 3000, TIMEOUT)
    assert [int(one.payload) for one in found] == list(range(1, 3001))


def test_a_hub_that_is_polled_receives_them_too(postgres):
    hub = Hub(postgres.url, Registry())
    found = heard_by(hub, "a")
    hub.poll()
    hub.notify("a", "x")
    try:
        wait_for(lambda: hub.poll(0.1) or found, TIMEOUT)
        assert texts(found) == [("a", "x")]
    finally:
        hub.stop()


def test_a_listener_may_listen_to_another_channel(hub):
    found = []

    def first(notification):
        hub.on_notify("b")(found.append)
        hub.notify("b", "from inside")

    hub.on_notify("a")(first)
    hub.notify("a", "x")

    wait_for(lambda: found, TIMEOUT)
    assert texts(found) == [("b", "from inside")]


def test_sqlite_has_none_and_says_what_works_there(sqlite):
    hub = Hub(sqlite.url, Registry())

    for call in (lambda: hub.notify("a", "x"), lambda: hub.on_notify("a")):
        with pytest.raises(UsageError, match="hub.publish"):
            call()
