"""Installing on PostgreSQL: whose way it gets into, and whose it does not."""

import threading

import pytest

from pgevents import Hub, Registry, Unavailable, signals
from pgevents.postgres import capture

from ..waiting import wait_for


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


def hub_of(database, *moments, listener=print, **options):
    """A hub that listens to orders, not started."""
    registry = Registry()
    registry.listen("orders", moments or ("after_insert",), listener)
    return Hub(database.url, registry, **options)


class Starting:
    """A hub that starts in a thread of its own, while a writer is in its way.

    At the end of the block the writer is closed and the hub stopped.
    """

    def __init__(self, hub, writer):
        self.hub = hub
        self._writer = writer
        self._thread = threading.Thread(target=hub.start)

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *exc_info):
        self._writer.close()
        self._thread.join()
        self.hub.stop()

    @property
    def done(self):
        return not self._thread.is_alive()


def waits_for_a_lock(database):
    return database.execute(
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        " AND wait_event_type = 'Lock'"
    ) != [(0,)]


def test_a_hub_that_finds_all_current_needs_no_lock_on_the_table(orders, heard):
    hub_of(orders).install()
    other = orders.connect()
    other.cursor().execute("LOCK TABLE orders IN ACCESS EXCLUSIVE MODE")

    with hub_of(orders, listener=heard) as hub:
        other.cursor().execute("INSERT INTO orders (item) VALUES ('tea')")
        other.commit()

        assert heard.next().new["item"] == "tea"
        assert hub.installed()[0]["state"] == "ok"


def test_a_long_read_transaction_does_not_keep_a_hub_from_starting(orders, heard):
    reader = orders.connect()
    reader.cursor().execute("SELECT * FROM orders")

    with hub_of(orders, listener=heard):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")

        assert heard.next().key == 1


def test_while_the_hub_waits_for_a_writer_other_writers_go_on(orders, heard):
    slow = orders.connect()
    slow.cursor().execute("INSERT INTO orders (item) VALUES ('slow')")

    with Starting(hub_of(orders, listener=heard), slow) as starting:
        wait_for(lambda: waits_for_a_lock(orders))
        for _ in range(20):
            # In the queue behind the hub each waits for less than this.
            orders.execute("SET lock_timeout = '2s'; INSERT INTO orders (item) VALUES ('quick')")
        waited = not starting.done
        slow.commit()
        wait_for(lambda: starting.done)
        orders.execute("INSERT INTO orders (item) VALUES ('heard')")
        event = heard.next()

    assert waited
    assert event.new["item"] == "heard"


def test_a_change_of_the_log_itself_does_not_stop_the_writers(orders):
    hub_of(orders).install()
    slow = orders.connect()
    slow.cursor().execute("INSERT INTO orders (item) VALUES ('slow')")

    with Starting(hub_of(orders, bell=False), slow) as starting:
        wait_for(lambda: waits_for_a_lock(orders))
        for _ in range(20):
            orders.execute("SET lock_timeout = '2s'; INSERT INTO orders (item) VALUES ('quick')")
        waited = not starting.done
        slow.commit()
        wait_for(lambda: starting.done)

    assert waited
    assert bell(orders) == "off"


def test_a_lock_that_never_comes_is_reported(orders, monkeypatch):
    monkeypatch.setattr(capture, "PATIENCE", 0.1)
    slow = orders.connect()
    slow.cursor().execute("INSERT INTO orders (item) VALUES ('slow')")

    with pytest.raises(Unavailable, match="no lock on public.orders"):
        hub_of(orders).install()


def test_start_names_another_process_that_has_been_installing_all_the_time(orders):
    slow = orders.connect()
    slow.cursor().execute("INSERT INTO orders (item) VALUES ('slow')")

    with Starting(hub_of(orders), slow):
        wait_for(lambda: waits_for_a_lock(orders))
        with pytest.raises(Unavailable, match="another process has been installing pgevents"):
            hub_of(orders).start(timeout=0.5)


def test_a_trigger_more_is_made_without_touching_the_others(orders):
    hub_of(orders, "after_insert").install()
    sql = "SELECT oid, xmin::text FROM pg_trigger WHERE tgname = 'pgevents_insert'"
    before = orders.execute(sql)

    hub_of(orders, "after_insert", "after_delete").install()

    assert orders.execute(sql) == before


def test_what_a_newer_version_installed_is_left_alone(orders, heard):
    hub_of(orders).install()
    orders.execute("COMMENT ON SCHEMA pgevents IS 'pgevents 999 0123456789abcdef'")

    with hub_of(orders, listener=heard):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()

    mark = orders.execute("SELECT obj_description('pgevents'::regnamespace, 'pg_namespace')")
    assert mark == [("pgevents 999 0123456789abcdef",)]


def test_what_an_older_version_installed_is_replaced(orders, heard):
    hub_of(orders).install()
    current = orders.execute("SELECT obj_description('pgevents'::regnamespace, 'pg_namespace')")
    orders.execute("COMMENT ON SCHEMA pgevents IS 'pgevents 0 0123456789abcdef'")
    orders.execute("DROP FUNCTION pgevents.ring CASCADE")

    with hub_of(orders, listener=heard):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()

    mark = orders.execute("SELECT obj_description('pgevents'::regnamespace, 'pg_namespace')")
    assert mark == current


def bell(database):
    return database.execute(
        "SELECT encode(tgargs, 'escape') FROM pg_trigger WHERE tgname = 'pgevents_ring'"
    )[0][0][:3]


def test_the_bell_is_taken_away_and_given_back(orders, heard):
    hub_of(orders).install()
    first = bell(orders)

    with hub_of(orders, bell=False, listener=heard):
        off = bell(orders)
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()
    hub_of(orders).install()
    kept = bell(orders)
    with hub_of(orders, bell=True, listener=heard):
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        heard.next()

    assert [first[:2], off, kept, bell(orders)[:2]] == ["on", "off", "off", "on"]


def test_what_somebody_else_keeps_in_the_schema_stays(orders):
    hub = hub_of(orders)
    hub.install()
    orders.execute("CREATE TABLE pgevents.mine (id int)")

    hub.uninstall()

    left = orders.execute(
        "SELECT relname FROM pg_class WHERE relnamespace = 'pgevents'::regnamespace"
    )
    assert left == [("mine",)]
    hub.install()
    assert hub.installed()[0]["state"] == "ok"


def test_a_partitioned_table_and_its_partitions_may_be_watched_together(postgres, heard):
    for statement in (
        "CREATE TABLE orders (id int, item text) PARTITION BY RANGE (id)",
        "CREATE TABLE young PARTITION OF orders FOR VALUES FROM (10) TO (20)",
        "CREATE TABLE old (id int, item text)",
    ):
        postgres.execute(statement)
    hub_of(postgres, schema="a" * 40, service="whole").install()
    parts = Hub(postgres.url, Registry(), "a" * 40, service="parts")
    parts.listen("young", "after_insert", heard)
    parts.listen("old", "after_insert", heard)
    parts.install()
    postgres.execute("ALTER TABLE orders ATTACH PARTITION old FOR VALUES FROM (0) TO (10)")

    with parts:
        postgres.execute("INSERT INTO orders VALUES (1, 'tea'), (11, 'mate')")
        tables = [event.table for event in heard.take(2)]
    states = [table["state"] for table in parts.installed()]
    parts.uninstall(everything=True)

    assert sorted(tables) == ["old", "young"]
    assert states == ["ok", "ok", "ok"]
    assert postgres.execute("SELECT count(*) FROM pg_trigger") == [(0,)]


def enabled(database, table="orders"):
    """How the triggers of a table fire: O is usual, A always, D and R are not for us."""
    return {
        row[0]
        for row in database.execute(
            "SELECT tgenabled::text FROM pg_trigger WHERE tgrelid = %s::regclass", table
        )
    }


@pytest.mark.every_server
@pytest.mark.parametrize(
    "disable", ["DISABLE TRIGGER USER", "ENABLE REPLICA TRIGGER pgevents_insert"]
)
def test_a_disabled_trigger_is_outdated_and_install_enables_it(orders, disable, heard):
    hub = hub_of(orders, listener=heard)
    hub.install()
    orders.execute("ALTER TABLE orders " + disable)

    before = hub.installed()[0]["state"]
    hub.install()

    assert before == "outdated"
    assert hub.installed()[0]["state"] == "ok"
    assert enabled(orders) == {"O"}


def test_a_running_hub_enables_what_was_disabled_and_tells(orders, heard, gaps):
    with hub_of(orders, listener=heard) as hub:
        orders.execute("ALTER TABLE orders DISABLE TRIGGER USER")
        wait_for(lambda: gaps)
        wait_for(lambda: enabled(orders) == {"O"})
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        event = heard.next()

    assert "a trigger of public.orders is missing, disabled or outdated" in gaps[0]
    assert event.new["item"] == "tea"
    assert hub.installed()[0]["state"] == "ok"


def test_each_of_several_hubs_tells_that_a_table_was_made_anew_whoever_saw_to_it(orders, heard):
    told = []

    def tell(hub, reason):
        told.append((hub, reason))

    hubs = [hub_of(orders, listener=heard) for _ in range(3)]
    with hubs[0], hubs[1], hubs[2], signals.gap.connected_to(tell):
        orders.execute("DROP TABLE orders; CREATE TABLE orders (id int PRIMARY KEY, item text)")
        hub_of(orders).install()
        wait_for(lambda: len(told) == 3)

    assert {hub for hub, _ in told} == set(hubs)
    assert {reason for _, reason in told} == {"public.orders was created again"}


@pytest.mark.every_server
def test_a_trigger_that_always_fires_is_left_so(orders):
    hub_of(orders).install()
    orders.execute("ALTER TABLE orders ENABLE ALWAYS TRIGGER pgevents_insert")
    before = orders.execute("SELECT oid, xmin::text FROM pg_trigger ORDER BY oid")

    hub_of(orders).install()
    after = orders.execute("SELECT oid, xmin::text FROM pg_trigger ORDER BY oid")
    narrower = hub_of(orders)
    narrower.watch("orders", "after_insert", exclude=["item"])
    narrower.install()

    assert after == before
    assert enabled(orders) == {"A"}
    assert narrower.installed()[0]["state"] == "ok"


@pytest.mark.every_server
@pytest.mark.parametrize("table", ["orders", "young"])
def test_a_trigger_that_was_disabled_on_a_partition_is_enabled(postgres, table, heard):
    for statement in (
        "CREATE TABLE orders (id int, item text) PARTITION BY RANGE (id)",
        "CREATE TABLE young PARTITION OF orders FOR VALUES FROM (10) TO (20)"
        " PARTITION BY RANGE (id)",
        "CREATE TABLE youngest PARTITION OF young DEFAULT",
    ):
        postgres.execute(statement)
    hub = hub_of(postgres, listener=heard)
    hub.install()
    for disabled in {table, "youngest"}:
        postgres.execute("ALTER TABLE {} DISABLE TRIGGER USER".format(disabled))

    before = hub.installed()[0]["state"]
    hub.install()

    assert before == "outdated"
    assert hub.installed()[0]["state"] == "ok"
    assert [enabled(postgres, name) for name in ("orders", "young", "youngest")] == [{"O"}] * 3
