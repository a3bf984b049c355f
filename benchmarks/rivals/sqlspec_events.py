"""sqlspec's events extension: its durable queue, in a table. Runs in a venv.

Takes a URL, a number and a backend: "poll_queue" asks the table again and again, "notify_queue" is
told by NOTIFY. Prints how many seconds that many events took.
"""

import sys
import threading
import time

from sqlspec import SQLSpec
from sqlspec.adapters.psycopg import PsycopgSyncConfig
from sqlspec.adapters.sqlite import SqliteConfig
from sqlspec.extensions.events import SyncEventChannel

CHANNEL = "orders"


def main(url: str, number: int, backend: str) -> None:
    """Publish so many events, and then let one thread handle them."""
    config = config_of(url, backend)
    SQLSpec().add_config(config)
    with config.provide_session() as session:
        for statement in store_of(config).create_statements():
            session.execute_script(statement)
        session.commit()
    channel = SyncEventChannel(config)
    channel.publish_many([(CHANNEL, {"id": n, "item": "a book"}, None) for n in range(number)])
    done = threading.Event()
    left = number

    def handle(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    begun = time.monotonic()
    channel.listen(CHANNEL, handle)
    done.wait()
    print(time.monotonic() - begun, flush=True)


def config_of(url: str, backend: str) -> object:
    events = {"events": {"backend": backend}}
    if url.startswith("sqlite:///"):
        path = url[len("sqlite:///") :]
        return SqliteConfig(connection_config={"database": path}, extension_config=events)
    return PsycopgSyncConfig(connection_config={"conninfo": url}, extension_config=events)


def store_of(config: object) -> object:
    if isinstance(config, SqliteConfig):
        from sqlspec.adapters.sqlite.events.store import SqliteEventQueueStore as Store
    else:
        from sqlspec.adapters.psycopg.events.store import PsycopgSyncEventQueueStore as Store
    return Store(config)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
