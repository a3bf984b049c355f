"""However large the rows are, and however well they are compressed, a few are read at once."""

import pytest
import sqlalchemy

import pgevents.postgres.grouplog
import pgevents.postgres.log
import pgevents.postgres.pages
import pgevents.sqlite.grouplog
import pgevents.sqlite.log
import pgevents.sqlite.pages
from pgevents import Hub
from pgevents.events.logrow import size

PAGE = 400_000  # bytes, in these tests
ROW = 100_000  # bytes of a row that PostgreSQL stores in 1,200
ROWS = 60
CONTEXT = 40_000


@pytest.fixture
def sizes(monkeypatch):
    """The bytes of each page that was read, with a page of PAGE bytes."""
    monkeypatch.setattr(pgevents.postgres.pages, "PAGE_BYTES", PAGE)
    monkeypatch.setattr(pgevents.postgres.pages, "UNPACKED", 8 * PAGE)
    monkeypatch.setattr(pgevents.sqlite.pages, "PAGE_BYTES", PAGE)
    found = []

    def recording(read):
        def recorder(self, *args):
            result = read(self, *args)
            rows = result[0] if isinstance(result, tuple) else result
            if rows:
                found.append(sum(map(size, rows)))
            return result

        return recorder

    for kind in (
        pgevents.postgres.log.LogReader,
        pgevents.sqlite.log.LogReader,
        pgevents.postgres.grouplog.PostgresGroupLog,
        pgevents.sqlite.grouplog.SqliteGroupLog,
    ):
        monkeypatch.setattr(kind, "read", recording(kind.read))
    return found


def insert_large(database):
    if database.kind == "sqlite":
        database.execute(
            "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < {})"
            " INSERT INTO orders (item) SELECT hex(zeroblob({})) FROM n".format(ROWS, ROW // 2)
        )
    else:
        database.execute(
            "INSERT INTO orders (item) SELECT repeat('a', %s) FROM generate_series(1, %s)",
            ROW,
            ROWS,
        )


def in_few_bytes(sizes, most):
    return max(sizes) <= PAGE + most and len(sizes) <= 2 * sum(sizes) / PAGE + 2


@pytest.mark.parametrize("group", [None, "mailer"])
def test_rows_that_compress_well_are_read_a_page_at_a_time(orders, registry, heard, sizes, group):
    registry.listen("orders", "after_insert", heard, group=group)

    with Hub(orders.url, registry) as hub:
        insert_large(orders)
        assert hub.drain(30)

    assert {len(event.new["item"]) for event in heard.take(ROWS)} == {ROW}
    assert in_few_bytes(sizes, ROW + 100), sizes


def test_a_backfill_of_rows_that_compress_well_is_read_a_page_at_a_time(
    orders, registry, heard, sizes
):
    insert_large(orders)
    registry.listen("orders", "after_insert", heard, group="mailer")

    hub = Hub(orders.url, registry)
    hub.group("mailer", start="backfill")
    with hub:
        assert len(heard.take(ROWS)) == ROWS

    assert in_few_bytes(sizes, ROW + 100), sizes


@pytest.mark.parametrize("group", [None, "mailer"])
def test_the_context_counts(orders, registry, heard, sizes, group):
    registry.listen("orders", "after_insert", heard, group=group)
    engine = orders.engine()

    with Hub(orders.url, registry) as hub:
        with engine.begin() as connection, hub.context(connection, note="x" * CONTEXT):
            for _ in range(ROWS):
                connection.execute(sqlalchemy.text("INSERT INTO orders (item) VALUES ('tea')"))
        assert hub.drain(30)

    assert len(heard.take(ROWS)) == ROWS
    assert in_few_bytes(sizes, CONTEXT + 100), sizes
