"""psycopg2-pgevents, what flask-sqlalchemy-pgevents is made of. Runs in a venv.

Takes a URL and a mode: "stamp" prints the time of each call, "count" nothing. A lost connection
ends poll() with an error; this program then connects again, as one that goes on has to.
"""

import sys
import time

import psycopg2
import psycopg2_pgevents as pgevents
from psycopg2_pgevents import trigger

#: It needs an extension that PostgreSQL's wheels do not have, for this one function.
EXTENSION = 'CREATE EXTENSION IF NOT EXISTS "uuid-ossp";'
INSTEAD = """
CREATE OR REPLACE FUNCTION public.uuid_generate_v4() RETURNS uuid LANGUAGE sql
AS 'SELECT pg_catalog.gen_random_uuid()';
"""


def main(url: str, mode: str) -> None:
    """Say "ready", then listen for ever."""
    connection = psycopg2.connect(url)
    with connection, connection.cursor() as cursor:
        cursor.execute("SELECT FROM pg_available_extensions WHERE name = 'uuid-ossp'")
        if cursor.fetchone() is None:
            trigger.INSTALL_TRIGGER_FUNCTION_STATEMENT = (
                trigger.INSTALL_TRIGGER_FUNCTION_STATEMENT.replace(EXTENSION, INSTEAD)
            )
    pgevents.install_trigger_function(connection)
    pgevents.install_trigger(connection, "orders")
    pgevents.register_event_channel(connection)
    print("ready", flush=True)
    while True:
        try:
            for _ in pgevents.poll(connection, timeout=1.0):
                if mode == "stamp":
                    print(time.monotonic(), flush=True)
        except psycopg2.Error:
            connection = connect_again(url)


def connect_again(url: str) -> object:
    """Try until it works."""
    while True:
        try:
            connection = psycopg2.connect(url)
            pgevents.register_event_channel(connection)
            return connection
        except psycopg2.Error:
            time.sleep(0.1)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
