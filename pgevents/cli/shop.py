"""The program that the demo listens to. It knows nothing of pgevents.

Run in a process of its own: ``python shop.py FILE``. It reports on
stdout what it does: a line of JSON for each transaction, with the time just before its end.
"""

import json
import sqlite3
import sys
import time

PAUSE = 0.4  # seconds between two transactions, for people to read along

TABLE = """
    CREATE TABLE orders (
        id INTEGER PRIMARY KEY,
        item TEXT NOT NULL,
        price REAL NOT NULL,
        status TEXT NOT NULL DEFAULT 'new'
    )
"""

#: Statement, and how its transaction ends.
STORY = (
    ("INSERT INTO orders (item, price) VALUES ('green tea', 3.9)", "COMMIT"),
    ("INSERT INTO orders (item, price) VALUES ('a teapot', 25)", "COMMIT"),
    ("UPDATE orders SET status = 'paid' WHERE id = 1", "COMMIT"),
    ("INSERT INTO orders (item, price) VALUES ('a mistake', 999)", "ROLLBACK"),
    ("UPDATE orders SET price = price + 1", "COMMIT"),
    ("DELETE FROM orders WHERE id = 2", "COMMIT"),
)


def work(path: str) -> None:
    """Do all of the story."""
    connection = sqlite3.connect(path, isolation_level=None)
    for statement, end in STORY:
        time.sleep(PAUSE)
        connection.execute("BEGIN IMMEDIATE")
        rows = connection.execute(statement).rowcount
        at = time.time()
        connection.execute(end)
        print(json.dumps({"sql": statement, "end": end, "rows": rows, "at": at}), flush=True)
    connection.close()


if __name__ == "__main__":
    work(sys.argv[1])
