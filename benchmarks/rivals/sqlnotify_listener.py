"""SQLNotify, told of all columns of a new order. Runs in a venv.

Takes a URL and a mode: "stamp" prints the time of each call, "count" nothing. Only its asynchronous
engines listen.
"""

import asyncio
import sys
import time

from sqlalchemy import BigInteger, Numeric
from sqlalchemy.ext.asyncio import create_async_engine
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column
from sqlnotify import Notifier, Operation

DRIVERS = {"postgresql": "asyncpg", "sqlite": "aiosqlite"}


class Base(DeclarativeBase):
    pass


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(BigInteger, primary_key=True)
    item: Mapped[str]
    price: Mapped[float] = mapped_column(Numeric)
    status: Mapped[str]


async def main(url: str, mode: str) -> None:
    """Say "ready", then listen for ever."""
    kind, _, rest = url.partition("://")
    engine = create_async_engine("{}+{}://{}".format(kind, DRIVERS[kind], rest))
    notifier = Notifier(db_engine=engine, use_logger=False)
    notifier.watch(Order, Operation.INSERT, extra_columns=["item", "price", "status"])

    @notifier.subscribe(Order, Operation.INSERT)
    async def called(_: object) -> None:
        if mode == "stamp":
            print(time.monotonic(), flush=True)

    await notifier.astart()
    print("ready", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
