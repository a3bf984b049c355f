"""What a start and a check ask a database: as much for a thousand tables as for one."""

from pgevents import Hub, Registry

from ..statements import statements

#: Statements, from the first of a connection on, and until the log was read once. Those that begin
#: or end a transaction do not count.
START, CHECK = {"sqlite": 15, "postgresql": 11}, {"sqlite": 2, "postgresql": 3}


def hub_with(database, tables, before=0):
    registry = Registry()
    for number in range(tables):
        if number >= before:
            database.execute("CREATE TABLE t{} (id integer PRIMARY KEY, item text)".format(number))
        registry.listen("t{}".format(number), "after_change", print)
        registry.listen("t{}".format(number), "after_update", print, where={"item": "tea"})
    return Hub(database.url, registry)


def sent_by(step):
    with statements() as sent:
        step()
    return sent


def test_a_start_asks_as_much_for_many_tables_as_for_few(database):
    counts = []
    for before, tables in ((0, 2), (2, 12)):
        hub_with(database, tables, before).install()
        hub = hub_with(database, tables, tables)

        counts.append(len(sent_by(hub.poll)))  # as start() does, in this very thread
        hub.stop()

    assert counts[0] == counts[1] <= START[database.kind]


def test_a_check_asks_as_much_for_many_tables_as_for_few(database):
    counts = []
    for before, tables in ((0, 2), (2, 12)):
        hub = hub_with(database, tables, before)
        hub._upkeep.begin()

        counts.append(len(sent_by(hub._parts.chores.check_capture)))

    assert counts[0] == counts[1] <= CHECK[database.kind]


def test_thousands_of_listeners_ask_for_their_table_once(database):
    hub = hub_with(database, 1)
    hub.install()
    few = len(sent_by(hub.install))

    for number in range(2000):
        hub.listen("t0", "after_change", lambda event, number=number: number)

    assert len(sent_by(hub.install)) == few
