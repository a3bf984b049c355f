"""Groups on PostgreSQL: lost connections, restarts, a large backlog, a restored dump."""

import collections
import threading

import pytest
import sqlalchemy

from pgevents import Hub, Registry
from pgevents.groups.options import Options

from ..waiting import wait_for


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    postgres.execute("CREATE TABLE effects (id int)")
    return postgres


def effect(event, connection):
    connection.execute(sqlalchemy.text("INSERT INTO effects VALUES (:id)"), {"id": event.key})


def effects(database):
    return collections.Counter(row[0] for row in database.execute("SELECT id FROM effects"))


def insert(database, count):
    database.execute("INSERT INTO orders (item) SELECT 'x' FROM generate_series(1, %s)", count)


def test_terminated_backends_and_restarts_leave_every_effect_exactly_once(orders, registry):
    registry.listen("orders", "after_insert", effect, group="stock", transactional=True)
    hub = Hub(orders.url, registry)
    hub.group("stock", batch_size=10, backoff=(0.01, 0.02), lease=2, max_attempts=100)
    with hub:
        for _ in range(5):
            insert(orders, 100)
            seen = sum(effects(orders).values())
            wait_for(lambda: sum(effects(orders).values()) > seen)
            orders.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
        orders.server.restart("immediate")
        insert(orders, 100)
        wait_for(lambda: len(effects(orders)) == 600, 60)

    assert set(effects(orders).values()) == {1}


@pytest.fixture
def retried(orders, registry):
    """A group whose one dead letter another process retries, and a way to let that one commit."""
    registry.listen("orders", "after_insert", print, group="g")
    with Hub(orders.url, registry) as hub:
        pass
    (seq,) = orders.execute(
        "INSERT INTO pgevents.log (topic, operation, new)"
        " VALUES ('public.orders', 'insert', '{}') RETURNING seq"
    )[0]
    orders.execute(
        "INSERT INTO pgevents.dead (group_name, seq, event, attempts, error, traceback, at)"
        " VALUES ('g', %s, '[]', 1, '', '', 0)",
        seq,
    )
    other = orders.connect()
    with other.cursor() as cursor:
        cursor.execute("SELECT FROM pgevents.dead FOR UPDATE")
        cursor.execute(
            "INSERT INTO pgevents.leases (group_name, seqs, attempt, again, renewed, due)"
            " VALUES ('g', %s, 1, false, 0, 0)",
            (seq,),
        )
        cursor.execute("DELETE FROM pgevents.dead")

    def meanwhile(act):
        answers = []
        thread = threading.Thread(target=lambda: answers.append(act(hub.group("g"))))
        thread.start()
        wait_for(
            lambda: orders.execute(
                "SELECT 1 FROM pg_stat_activity"
                " WHERE datname = current_database() AND wait_event_type = 'Lock'"
            )
        )
        other.commit()
        thread.join()
        return answers, orders.execute("SELECT count(*) FROM pgevents.leases")[0][0]

    yield meanwhile
    hub.stop()


def test_a_dead_letter_that_two_retry_at_once_is_handled_once_more(retried):
    assert retried(lambda group: group.retry_dead()) == ([0], 1)


def test_a_group_that_is_dropped_while_another_process_retries_leaves_nothing(retried):
    assert retried(lambda group: group.drop()) == ([None], 0)


def test_thousands_of_events_that_wait_for_their_time_hold_up_no_housekeeping(orders, registry):
    registry.listen("orders", "after_insert", print, group="g")
    hub = Hub(orders.url, registry, retention=1)
    with hub:
        hub.group("g").pause()
    insert(orders, 30000)
    hub.group("g").rewind("now")
    orders.execute(
        "INSERT INTO pgevents.leases (group_name, seqs, attempt, again, renewed, due)"
        " SELECT 'g', seq::text, 2, false, 0, extract(epoch FROM now()) + 3600 FROM pgevents.log"
        " ORDER BY seq LIMIT 20000"
    )

    with hub:
        wait_for(lambda: orders.execute("SELECT count(*) FROM pgevents.log") == [(20000,)])


@pytest.mark.parametrize("group", ["g", None])
def test_each_row_of_a_backlog_is_read_a_few_times_only(orders, registry, group):
    # The server has no statistics about the log yet.
    seen = []
    registry.listen("orders", "after_insert", seen.append, group=group)
    hub = Hub(orders.url, registry)
    with hub:
        insert(orders, 20000)
        wait_for(lambda: len(seen) == 20000)

    def sessions():
        return orders.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
        )[0][0]

    wait_for(lambda: sessions() == 1)  # they tell when they end
    (read,) = orders.execute(
        "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_all_tables"
        " WHERE relid = 'pgevents.log'::regclass"
    )[0]
    assert 20000 <= read <= 100000


def test_two_groups_in_one_hub_go_on_beside_an_open_write_transaction(orders, registry):
    registry.listen("orders", "after_insert", effect, group="stock", transactional=True)
    writer = orders.connect()
    with Hub(orders.url, registry):
        writer.cursor().execute("INSERT INTO orders (item) VALUES ('slow')")
        insert(orders, 50)
        wait_for(lambda: len(effects(orders)) == 50)
        writer.commit()
        wait_for(lambda: len(effects(orders)) == 51)

    assert set(effects(orders).values()) == {1}


def test_a_backlog_larger_than_a_page_is_handled_exactly(orders, registry):
    handled = []
    lock = threading.Lock()

    def handle(events):
        with lock:
            handled.extend(event.key for event in events)

    registry.listen("orders", "after_insert", handle, group="index", batch=True)
    with Hub(orders.url, registry):
        pass
    writer = orders.connect()
    writer.cursor().execute("INSERT INTO orders (item) VALUES ('first number, last commit')")
    insert(orders, 5000)
    with Hub(orders.url, registry):
        wait_for(lambda: len(handled) > 1000)
        writer.commit()
        insert(orders, 1000)
        wait_for(lambda: len(handled) == 6001)

    assert sorted(handled) == list(range(1, 6002))


@pytest.mark.parametrize(
    "act", [lambda group: group.drop(), lambda group: group.rewind("now")], ids=["drop", "rewind"]
)
def test_a_claim_that_is_under_way_leaves_no_lease_behind(orders, registry, heard, act):
    registry.listen("orders", "after_insert", heard, group="mailer")
    with Hub(orders.url, registry):
        pass
    group = Hub(orders.url, Registry()).group("mailer")
    claim = orders.connect()
    cursor = claim.cursor()
    cursor.execute("SELECT FROM pgevents.groups WHERE name = 'mailer' FOR UPDATE")

    acting = threading.Thread(target=act, args=(group,))
    acting.start()
    wait_for(
        lambda: orders.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
            " AND wait_event_type = 'Lock'"
        )
        != [(0,)]
    )
    cursor.execute(
        "INSERT INTO pgevents.leases (group_name, seqs, attempt, renewed, due)"
        " VALUES ('mailer', '1', 1, 0, 0)"
    )
    claim.commit()
    acting.join()

    assert orders.execute("SELECT count(*) FROM pgevents.leases") == [(0,)]


def test_a_process_that_stands_by_writes_nothing(orders):
    hub = Hub(orders.url, Registry())
    hub.watch("orders")
    hub.install()
    options, ledger = Options(), hub._groups.ledger()
    topics = {"public.orders": ["insert"]}
    definition = options.definition(topics)
    ledger.groups.define("g", "now", list, definition=definition, owner="one")
    insert(orders, 1)
    assert ledger.claims.claim("g", definition, "one", list(topics), options).work
    number = "SELECT pg_snapshot_xmax(pg_current_snapshot())"
    before = orders.execute(number)

    for _ in range(5):
        claim = ledger.claims.claim("g", definition, "two", list(topics), options, standing_by=True)
        assert claim.work is None and 0 < claim.held <= options.lease

    assert orders.execute(number) == before
    hub.stop()


def test_what_only_the_commit_refuses_is_that_events_failure(orders, registry):
    orders.execute(
        "ALTER TABLE effects ADD FOREIGN KEY (id) REFERENCES orders"
        " DEFERRABLE INITIALLY DEFERRED"
    )

    def handle(event, connection):
        number = 99 if event.key == 2 else event.key
        connection.execute(sqlalchemy.text("INSERT INTO effects VALUES (:id)"), {"id": number})

    registry.listen("orders", "after_insert", handle, group="stock", transactional=True)
    hub = Hub(orders.url, registry)
    group = hub.group("stock", max_attempts=2, backoff=(0.01, 0.02))
    with hub:
        insert(orders, 3)
        (letter,) = wait_for(group.dead_letters, 5)
        wait_for(lambda: effects(orders) == {1: 1, 3: 1}, 5)

    assert (letter.event.key, letter.attempts) == (2, 2)
    assert "foreign key" in letter.error


def test_a_backfill_may_take_longer_than_a_statement(orders, registry, heard):
    insert(orders, 200000)
    orders.server.execute("ALTER DATABASE {} SET statement_timeout = '300ms'".format(orders.name))
    registry.listen("orders", "after_insert", heard, group="stock")
    hub = Hub(orders.url, registry)
    group = hub.group("stock", start="backfill")
    with hub:
        assert group.info()["backfilled"] == 200000


def test_a_group_begins_anew_when_the_log_was_dropped_under_it(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="stock")
    with Hub(orders.url, registry) as hub:
        insert(orders, 1)
        heard.next()
        orders.execute("DROP SCHEMA pgevents CASCADE")
        wait_for(lambda: hub.groups() if installed(orders) else None)
        insert(orders, 1)
        event = heard.next()

    assert event.key == 2


def installed(database):
    return database.execute(
        "SELECT 1 FROM pg_trigger WHERE tgrelid = 'orders'::regclass AND tgname = 'pgevents_insert'"
        " AND to_regclass('pgevents.groups') IS NOT NULL"
    )


def test_a_group_that_cannot_work_says_why(orders, registry, heard):
    registry.listen("orders", "after_insert", heard, group="g")

    with Hub(orders.url, registry) as hub:
        wait_for(lambda: "error" in hub.status()["groups"]["g"])
        assert hub.status()["groups"]["g"]["error"] is None
        orders.execute("ALTER TABLE pgevents.leases RENAME TO gone")
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        wait_for(lambda: hub.status()["groups"]["g"]["error"])
        assert "leases" in hub.status()["groups"]["g"]["error"]
        orders.execute("ALTER TABLE pgevents.gone RENAME TO leases")

        assert heard.next().new["item"] == "tea"
        wait_for(lambda: hub.status()["groups"]["g"]["error"] is None)
