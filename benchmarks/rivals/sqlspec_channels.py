"""sqlspec's events extension, publishing and receiving. Runs in a venv.

Takes a URL, a number, a backend and what to do: "publish" and "publish_many" print how many
seconds that many messages took; "listen" prints "ready", then the time of each call.
"""

import sys
import threading
import time

from sqlspec import SQLSpec
from sqlspec.extensions.events import SyncEventChannel
from sqlspec_events import CHANNEL, config_of, store_of

AT_ONCE = 1000  # messages of one call of publish_many()


def main(url: str, number: int, backend: str, what: str) -> None:
    """Do it."""
    config = config_of(url, backend)
    SQLSpec().add_config(config)
    if backend != "notify":
        with config.provide_session() as session:
            for statement in store_of(config).create_statements():
                session.execute_script(statement)
            session.commit()
    channel = SyncEventChannel(config)
    if what == "listen":
        listen(channel)
    publish(channel, 20, what)  # connections are made, plans too
    begun = time.monotonic()
    publish(channel, number, what)
    print(time.monotonic() - begun, flush=True)


def publish(channel: object, number: int, what: str) -> None:
    """Publish so many, one by one or many at once."""
    if what == "publish":
        for n in range(number):
            channel.publish(CHANNEL, {"id": n, "item": "a book"})
        return
    for first in range(0, number, AT_ONCE):
        upto = min(number, first + AT_ONCE)
        channel.publish_many(
            [(CHANNEL, {"id": n, "item": "a book"}, None) for n in range(first, upto)]
        )


def listen(channel: object) -> None:
    """Print the time of each call, for ever."""
    channel.listen(CHANNEL, lambda _: print(time.monotonic(), flush=True))
    time.sleep(1)  # it has nothing that tells that it listens
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4])
