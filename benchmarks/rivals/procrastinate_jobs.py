"""procrastinate: jobs that are deferred in a batch, and its worker. Runs in a venv.

Takes a URL and a number; prints how many seconds that many jobs took.
"""

import sys
import time

import procrastinate


def main(url: str, number: int) -> None:
    """Defer so many jobs, and then let one worker handle them."""
    app = procrastinate.App(connector=procrastinate.PsycopgConnector(conninfo=url))
    left = number
    last = 0.0

    @app.task(name="order")
    async def order(id: int, item: str) -> None:
        # A coroutine: for a plain function it would take a thread each time.
        nonlocal left, last
        left -= 1
        if left == 0:
            last = time.monotonic()

    with app.open():
        app.schema_manager.apply_schema()
        order.batch_defer(*({"id": n, "item": "a book"} for n in range(number)))
    begun = time.monotonic()
    app.run_worker(wait=False)
    print(last - begun, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
