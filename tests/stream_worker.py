"""Processes that append to streams, or make a projection of them; run by tests."""

import time

from sqlalchemy import create_engine, text
from sqlalchemy.orm import Session

from pgevents import ConcurrencyError, Hub, Registry


def append(url, stream, times):
    """Append as many events, each at the version that was loaded; print how often it was late."""
    streams, late = Hub(url, Registry()).streams, 0
    print("ready", flush=True)
    for _ in range(times):
        while True:
            history = streams.load(stream)
            number = {"type": "happened", "number": history.version + 1}
            try:
                streams.append(stream, number, expected_version=history.version)
                break
            except ConcurrencyError:
                late += 1
    print(late, flush=True)


def append_for_ever(url, stream):
    """Append in transactions that write a row of the application's, too, until it is killed."""
    streams = Hub(url, Registry()).streams
    engine = create_engine(url.replace("postgresql:", "postgresql+psycopg2:", 1))
    print("ready", flush=True)
    while True:
        with Session(engine) as session:
            session.execute(text("INSERT INTO other (id) VALUES (1)"))
            streams.append(
                stream, *({"type": "happened", "number": n} for n in range(3)), bind=session
            )
            session.commit()


def project(url):
    """Write each event's number and stream into a table, with the group's position."""
    hub = Hub(url, Registry())
    hub.group("totals", batch_size=20, lease=1.0)

    @hub.streams.subscribe(group="totals", transactional=True)
    def add(event, connection):
        connection.execute(
            text("INSERT INTO totals VALUES (:stream, :version)"),
            {"stream": event.stream, "version": event.version},
        )

    with hub:
        print("ready", flush=True)
        while True:
            time.sleep(60)  # until it is killed
