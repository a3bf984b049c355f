"""pgqueuer: jobs that are enqueued in a batch, and its queue manager. Runs in a venv.

Takes a URL and a number; prints how many seconds that many jobs took.
"""

import asyncio
import sys
import time

import psycopg
from pgqueuer import PgQueuer, PsycopgDriver, Queries
from pgqueuer.types import QueueExecutionMode


async def main(url: str, number: int) -> None:
    """Enqueue so many jobs, and then let one manager handle them."""
    connection = await psycopg.AsyncConnection.connect(url, autocommit=True)
    driver = PsycopgDriver(connection)
    queries = Queries(driver)
    await queries.install()
    await queries.enqueue(["order"] * number, [b"a book"] * number, [0] * number)
    manager = PgQueuer(driver)
    left = number
    last = 0.0

    @manager.entrypoint("order")
    async def order(_: object) -> None:
        nonlocal left, last
        left -= 1
        if left == 0:
            last = time.monotonic()

    begun = time.monotonic()
    await manager.qm.run(mode=QueueExecutionMode.drain, batch_size=100)
    print(last - begun, flush=True)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
