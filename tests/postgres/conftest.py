"""A log that all tests of a module share: one database and one hub per PostgreSQL, for speed."""

import itertools

import pytest

from pgevents import ANY, Hub, Registry
from pgevents.testing import Recorder

from .. import servers as postgresql
from ..conftest import name, running
from ..database import Postgres

MOMENTS = ["after_change", "after_truncate"]


class Captured:
    """A database whose events are heard, whichever table they are of."""

    def __init__(self, database):
        self.database = database
        self.execute = database.execute
        self.major = database.server.major
        self.heard = Recorder()
        self._connections = []
        self._numbers = itertools.count()
        registry = Registry()
        for moment in MOMENTS:
            registry.listen(ANY, moment, self.heard)
        self.hub = Hub(database.url, registry)

    def table(self, columns, *more, **spec):
        """Create a table, watch it and return its name."""
        table = "t{}".format(next(self._numbers))
        self.execute("CREATE TABLE {} ({}) {}".format(table, columns, " ".join(more)))
        self.watch(table, **spec)
        return table

    def watch(self, target, **spec):
        """Capture a table; nobody looks for it again."""
        installer = Hub(self.database.url, Registry(), service="s{}".format(next(self._numbers)))
        installer.watch(target, **spec)
        installer.install()

    def events(self):
        """What was heard since the last call, of what is committed by now."""
        assert self.hub.drain(30)
        return self.heard.rest()

    def write(self, *statements):
        """Run each statement in its own transaction; return the events."""
        for statement in statements:
            self.execute(statement)
        return self.events()

    def connect(self):
        """Open a connection; it is closed with the test."""
        connection = self.database.connect()
        self._connections.append(connection)
        return connection

    def write_together(self, *statements):
        """Run statements in one transaction of one new session; return the events."""
        connection = self.connect()
        for statement in statements:
            connection.cursor().execute(statement)
        connection.commit()
        return self.events()

    def end_test(self):
        """Close the connections and forget the events that a failed test left."""
        while self._connections:
            self._connections.pop().close()
        self.events()


@pytest.fixture(scope="module", params=postgresql.wanted_majors(), ids=name)
def shared(request, servers):
    """What the module's tests share."""
    database = Postgres(running(servers, request.param))
    captured = Captured(database)
    with captured.hub:
        yield captured
    database.close()


@pytest.fixture
def captured(shared):
    """A log that is empty of events nobody asked for."""
    yield shared
    shared.end_test()
