"""A process of a group for tests with wrong clocks: URL.

Each call of its listener becomes a row of `calls`, when it begins: the order's id, whether the
event was redelivered, and the attempt. An order "slow" takes longer than the lease, "stuck" for
ever, "bad" raises at the first attempt.
"""

import sys
import threading
import time

import sqlalchemy

from pgevents import Hub, Registry

CALL = sqlalchemy.text("INSERT INTO calls VALUES (:id, :again, :attempt)")
LEASE = 2

# The one that Python uses, clock_nanosleep(), fails under libfaketime.
time.sleep = lambda seconds: threading.Event().wait(seconds)


def main(url):
    engine = sqlalchemy.create_engine(url)
    registry = Registry()

    @registry.listens_for("orders", "after_insert", group="mailer")
    def handle(event):
        with engine.begin() as connection:
            connection.execute(
                CALL, {"id": event.key, "again": int(event.redelivered), "attempt": event.attempt}
            )
        item = event.new["item"]
        if item == "bad" and event.attempt == 1:
            raise ValueError("not now")
        if item == "slow":
            time.sleep(LEASE * 1.5)
        if item == "stuck" and not event.redelivered:
            time.sleep(3600)

    hub = Hub(url, registry)
    hub.group("mailer", ordered=False, batch_size=1, lease=LEASE, backoff=(2, 20))
    with hub:
        print("ready", flush=True)
        while True:
            time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
