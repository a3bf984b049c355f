"""The table of orders that most tests write to: see the fixture `orders`."""


def insert(database, *items):
    """Insert orders, each in a transaction of its own."""
    for item in items:
        database.execute("INSERT INTO orders (item) VALUES (%s)", str(item))


def items(events):
    """The items of the orders that were inserted."""
    return [event.new["item"] for event in events]


def log_size(database):
    """How many rows the log has."""
    table = "pgevents_log" if database.kind == "sqlite" else "pgevents.log"
    return database.execute("SELECT count(*) FROM {}".format(table))[0][0]


def leases(database, what="seqs"):
    """A column of the groups' leases."""
    table = "pgevents_leases" if database.kind == "sqlite" else "pgevents.leases"
    return [row[0] for row in database.execute("SELECT {} FROM {}".format(what, table))]
