"""A process of a group, for tests that kill it: "plain" or "transactional", and options.

Each event it handles becomes a row of `effects`: the order's id, and whether
the event said that somebody may have seen it before. An order "poison" kills
the process.
"""

import os
import signal
import time

import sqlalchemy

from pgevents import Hub, Registry

EFFECT = sqlalchemy.text("INSERT INTO effects (id, again) VALUES (:id, :again)")


def main(url, kind, *options):
    registry = Registry()
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:", 1))

    def effect(connection, event):
        if event.new["item"] == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        connection.execute(EFFECT, {"id": event.key, "again": int(event.redelivered)})

    def plain(event):
        with engine.begin() as connection:
            effect(connection, event)

    def transactional(event, connection):
        effect(connection, event)

    fn = transactional if kind == "transactional" else plain
    registry.listen(
        "orders", "after_insert", fn, group="mailer", transactional=kind == "transactional"
    )
    hub = Hub(url, registry)
    hub.group(
        "mailer",
        batch_size=20,
        lease=3,
        ordered="unordered" not in options,
        max_attempts=2 if "impatient" in options else 100,
        backoff=(0.05, 0.2),
    )
    hub.start()
    print("ready", flush=True)
    while True:
        time.sleep(60)  # until it is killed
