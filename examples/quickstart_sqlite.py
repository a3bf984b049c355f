"""Hear what happens in a table of SQLite. Needs no server: python quickstart_sqlite.py"""

import os
import sqlite3
import tempfile

from pgevents import Hub, listens_for


@listens_for("orders", "after_insert")
def send_receipt(event):
    print(f"receipt for order {event.key}: {event.new['item']}")


@listens_for("orders", "after_update", columns=["status"], where={"status": "paid"})
def ship(event):
    print(f"ship order {event.key}: it was {event.old['status']}, it is {event.new['status']}")


with tempfile.TemporaryDirectory() as folder:
    path = os.path.join(folder, "shop.db")
    # Somebody who knows nothing of pgevents: it could be another program.
    shop = sqlite3.connect(path)
    shop.execute(
        "CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT, status TEXT DEFAULT 'new')"
    )

    with Hub("sqlite:///" + path) as hub:
        with shop:
            shop.execute("INSERT INTO orders (item) VALUES ('green tea')")
            shop.execute("INSERT INTO orders (item) VALUES ('a teapot')")
        with shop:
            shop.execute("UPDATE orders SET item = 'two teapots' WHERE id = 2")  # still not paid
            shop.execute("UPDATE orders SET status = 'paid' WHERE id = 1")
        shop.execute("INSERT INTO orders (item) VALUES ('a mistake')")
        shop.rollback()  # nobody hears of it
        hub.drain()  # the listeners run in a thread: wait until they are done
    shop.close()

# Output:
# receipt for order 1: green tea
# receipt for order 2: a teapot
# ship order 1: it was new, it is paid
