"""A process of a group that is told to end by SIGTERM: URL, seconds for each event, how it ends.

    raise   the signal's handler raises SystemExit inside of `with hub`
    exit    it raises SystemExit, and nobody stops the hub
    stop    it stops the hub itself, then exits

Each event that was handled becomes a row of `steps`.
"""

import os
import signal
import sys
import time

import sqlalchemy

from pgevents import Hub, Registry

STEP = sqlalchemy.text("INSERT INTO steps VALUES (:id, :again, :pid, :began)")


def main(url, seconds, way):
    engine = sqlalchemy.create_engine(url)
    registry = Registry()

    @registry.listens_for("orders", "after_insert", group="mailer")
    def slowly(event):
        began = time.time()
        print("began", event.key, flush=True)
        time.sleep(0 if event.redelivered else float(seconds))
        with engine.begin() as connection:
            connection.execute(
                STEP,
                {
                    "id": event.key,
                    "again": int(event.redelivered),
                    "pid": os.getpid(),
                    "began": began,
                },
            )

    hub = Hub(url, registry)

    def end(*_):
        if way == "stop":
            hub.stop()
        raise SystemExit(0)

    signal.signal(signal.SIGTERM, end)
    if way == "raise":
        with hub:
            wait()
    hub.start()
    wait()


def wait():
    print("ready", flush=True)
    while True:
        time.sleep(60)


if __name__ == "__main__":
    main(*sys.argv[1:])
