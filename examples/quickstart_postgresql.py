"""Hear what happens in a table of PostgreSQL.

    DATABASE_URL=postgresql://me@localhost/test python quickstart_postgresql.py

The role needs CREATE on the database; what is created is removed at the end.
"""

import os
import sys

from sqlalchemy import Column, Integer, Numeric, Text, create_engine
from sqlalchemy.engine import make_url
from sqlalchemy.orm import Session, declarative_base

from pgevents import Hub, listens_for

Base = declarative_base()


class Order(Base):
    __tablename__ = "pgevents_quickstart_orders"

    id = Column(Integer, primary_key=True)
    item = Column(Text)
    price = Column(Numeric(10, 2))
    status = Column(Text, default="new")


@listens_for(Order, "after_insert")
def send_receipt(event):
    print(f"receipt for order {event.key}: {event.new['item']}, {event.new['price']!r}")


@listens_for(Order, "after_update", columns=[Order.status], where={Order.status: "paid"})
def ship(event):
    print(f"ship order {event.key}, says {event.context['user']}")


if "DATABASE_URL" not in os.environ:
    sys.exit("which database? DATABASE_URL=postgresql://me@localhost/test python " + sys.argv[0])

# The driver is yours to choose; without one, SQLAlchemy 2.1 takes psycopg 3.
url = make_url(os.environ["DATABASE_URL"]).set(drivername="postgresql+psycopg2")
engine = create_engine(url)
Base.metadata.create_all(engine)
hub = Hub(engine, service="quickstart")
try:
    with hub, Session(engine) as session:
        tea = Order(item="green tea", price="3.90")
        session.add(tea)
        session.commit()

        with hub.context(session, user="ann"):
            tea.status = "paid"
            session.commit()

        session.add(Order(item="a mistake", price="999"))
        session.flush()
        session.rollback()  # nobody hears of it

        # It need not be the ORM: plain SQL, psql or another program do as well.
        session.connection().exec_driver_sql(
            "INSERT INTO pgevents_quickstart_orders (item, price) VALUES ('a teapot', 25)"
        )
        session.commit()
        hub.drain()  # the listeners run in a thread: wait until they are done
finally:
    hub.uninstall()
    Base.metadata.drop_all(engine)
    engine.dispose()

# Output:
# receipt for order 1: green tea, Decimal('3.90')
# ship order 1, says ann
# receipt for order 3: a teapot, Decimal('25.00')
