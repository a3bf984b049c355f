"""What one writes without a library: pg_notify of each row, and a loop that listens.

The loop is a good one: it takes all notifications that have come at once, and
not with ``pop(0)``, which is what most examples show and gets slow in a crowd.
"""

import json
import select
from typing import Any, Callable

import psycopg2

TRIGGER = """
CREATE FUNCTION tell() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    PERFORM pg_notify('orders', row_to_json(NEW)::text);
    RETURN NULL;
END
$$;
CREATE TRIGGER tell AFTER INSERT ON orders FOR EACH ROW EXECUTE FUNCTION tell();
"""


def loop(url: str, ready: Callable[[], None], handle: Callable[[Any], None]) -> None:
    """Call ``handle(row)`` for each row that is inserted, for ever."""
    connection = psycopg2.connect(url)
    connection.autocommit = True
    connection.cursor().execute("LISTEN orders")
    ready()
    while True:
        select.select([connection], [], [])
        connection.poll()
        notifies = connection.notifies[:]
        connection.notifies.clear()
        for notify in notifies:
            handle(json.loads(notify.payload))
