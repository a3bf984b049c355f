"""Streams on PostgreSQL: rights, other isolation levels, restored dumps, uninstalling."""

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.orm import Session

from pgevents import ConcurrencyError, Denied, Hub, Registry

TIMEOUT = 20.0  # seconds
FAR = 10**12  # a transaction's number that no test reaches


def happened(number):
    return {"type": "happened", "number": number}


def numbers(events):
    return [event.data["number"] for event in events]


@pytest.fixture
def hub(postgres):
    hub = Hub(postgres.url, Registry())
    hub.install()
    yield hub
    hub.stop()


def test_in_repeatable_read_a_late_append_is_a_serialization_failure(postgres, hub):
    engine = create_engine(
        postgres.url.replace("postgresql:", "postgresql+psycopg2:", 1),
        isolation_level="REPEATABLE READ",
    )
    hub.streams.append("a", happened(1))
    with Session(engine) as session:
        version = hub.streams.load("a", bind=session).version
        hub.streams.append("a", happened(2))
        with pytest.raises(OperationalError, match="could not serialize"):
            hub.streams.append("a", happened(3), expected_version=version, bind=session)
    with Session(engine) as session, pytest.raises(ConcurrencyError):
        hub.streams.append("a", happened(3), expected_version=version, bind=session)
    engine.dispose()


def test_events_of_another_cluster_count_as_read_and_what_waited_comes(postgres, hub):
    found = []
    hub.streams.subscribe(group="g")(found.append)
    with hub:
        (stored,) = hub.streams.append("a", happened(1))
        assert hub.group("g").wait(stored, TIMEOUT)
    hub.streams.append("a", happened(2))
    postgres.execute("UPDATE pgevents.events SET xid = (xid::text::int8 + %s)::text::xid8", FAR)
    snapshot = "{0}:{0}:".format(FAR + 10**6)
    postgres.execute(
        "UPDATE pgevents.groups SET cursor = jsonb_set(cursor::jsonb, '{since}',"
        " to_jsonb(%s::text))::text",
        snapshot,
    )

    with hub:
        hub.streams.append("a", happened(3))
        assert hub.drain(TIMEOUT)
    assert numbers(found) == [1, 2, 3]


def test_uninstalling_keeps_streams_unless_everything_goes(postgres, hub):
    hub.streams.append("a", happened(1))

    hub.uninstall()
    assert numbers(hub.streams.load("a")) == [1]
    hub.uninstall(everything=True)
    assert postgres.execute("SELECT to_regclass('pgevents.events')") == [(None,)]


def test_a_role_with_the_printed_grants_appends_and_projects(postgres, hub):
    name = postgres.server.create_user()
    postgres.execute(hub.install(sql_only=True, role=name))
    url = "postgresql://{}@{}".format(name, postgres.url.split("@")[-1])
    found = []
    with Hub(url, Registry(), install=False) as limited:
        streams = limited.streams
        streams.subscribe(group="g")(found.append)
        (stored,) = streams.append("a", happened(1), expected_version=0)
        streams.append("a", happened(2), expected_version=1)
        streams.snapshot("a", 3, 2)
        streams.redact(stored, happened(9))
        assert numbers(streams.load("a")) == [9, 2]
        assert limited.drain(TIMEOUT)
        assert streams.delete("a") == 2
    assert len(found) == 2
    postgres.execute("DROP OWNED BY {}".format(name))


def test_a_role_without_the_rights_is_told_what_to_grant(postgres, hub):
    name = postgres.server.create_user()
    with Session(postgres.engine()) as session:
        session.execute(text("SET ROLE {}".format(name)))
        with pytest.raises(Denied, match="pgevents sql URL --role"):
            hub.streams.append("a", happened(1), bind=session)
