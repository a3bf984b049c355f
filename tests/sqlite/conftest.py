"""What the tests on SQLite may ask for."""

import pytest

from pgevents import Hub


@pytest.fixture
def told(sqlite, registry, heard):
    """Run statements on one connection; give the events of the tables."""
    hubs = []

    def told(tables, *statements, **spec):
        if not hubs:
            hub = Hub(sqlite.url, registry)
            for table in [tables] if isinstance(tables, str) else tables:
                quoted = '"{}"'.format(table.replace('"', '""'))
                registry.listen(quoted, "after_change", heard)
                if spec:
                    hub.watch(quoted, **spec)
            hub.install()
            hub.poll()
            hubs.append(hub)
        connection = sqlite.connect()
        connection.execute("PRAGMA synchronous = off")  # as Sqlite.execute()
        for statement in statements:
            sql, params = (statement, ()) if isinstance(statement, str) else statement
            connection.execute(sql, params)
        connection.commit()
        hubs[0].poll()
        return heard.rest()

    yield told
    for hub in hubs:
        hub.stop()
