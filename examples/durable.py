"""A group: what was committed while nobody ran is handled later, once, and exactly.

Run it alone: it makes its own SQLite file, and removes it.
"""

import logging
import pathlib
import sqlite3
import tempfile

import sqlalchemy

from pgevents import Hub, Registry
from pgevents.testing import wait_until

logging.disable(logging.WARNING)  # a listener that raises is logged
registry = Registry()


@registry.listens_for("orders", "after_insert", group="stock", transactional=True)
def reserve(event, connection):
    """Runs in one transaction with the group's acknowledgement."""
    print("reserving", event.new["item"], "attempt", event.attempt)
    statement = "UPDATE stock SET reserved = reserved + 1 WHERE item = :item"
    connection.execute(sqlalchemy.text(statement), {"item": event.new["item"]})
    if event.new["item"] == "tea" and event.attempt == 1:
        raise RuntimeError("the shelf is being cleaned")  # what was written is taken back


def new_hub(path):
    hub = Hub(f"sqlite:///{path}", registry)
    hub.group("stock", backoff=(0.05, 1.0))
    return hub


def main():
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "shop.db"
        shop = sqlite3.connect(path, isolation_level=None)
        shop.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
        shop.execute("CREATE TABLE stock (item TEXT, reserved INTEGER DEFAULT 0)")
        shop.execute("INSERT INTO stock (item) VALUES ('tea'), ('milk')")

        with new_hub(path):
            print("the group is known")
        shop.execute("INSERT INTO orders (item) VALUES ('tea'), ('milk')")
        print("two orders, and nobody runs")

        with new_hub(path) as hub:
            wait_until(lambda: hub.group("stock").lag()[0] == 0, 10)
        print(shop.execute("SELECT item, reserved FROM stock").fetchall())
        shop.close()


if __name__ == "__main__":
    main()

# Output:
# the group is known
# two orders, and nobody runs
# reserving tea attempt 1
# reserving tea attempt 2
# reserving milk attempt 1
# [('tea', 1), ('milk', 1)]
