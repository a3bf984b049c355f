"""Housekeeping: what is old goes, but not before it could be seen."""

from pgevents import Hub, Registry

from ..orders import insert, log_size
from ..waiting import wait_for


def test_rows_that_are_older_than_the_retention_go(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry, retention=1) as hub:
        insert(orders, "old")
        heard.next()
        kept = log_size(orders)
        wait_for(lambda: log_size(orders) == 0)
        insert(orders, "new")
        event = heard.next()

    assert kept == 1
    assert event.new["item"] == "new"
    assert hub.status()["gaps"] == 0


def test_rows_that_are_younger_stay(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry, retention=60) as hub:
        insert(orders, "young")
        for _ in range(3):
            hub._parts.chores.clean()

    assert log_size(orders) == 1


def test_rows_go_though_the_clock_was_set_back(orders, registry, heard):
    notes = "pgevents_retention" if orders.kind == "sqlite" else "pgevents.retention"
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry, retention=1):
        insert(orders, "a")
        heard.next()
        wait_for(lambda: orders.execute("SELECT count(*) FROM " + notes)[0][0])
        orders.execute("UPDATE {} SET at = '2099-01-01T00:00:00.000Z'".format(notes))
        insert(orders, "b")
        heard.next()
        wait_for(lambda: log_size(orders) == 0)


def test_many_rows_go_though_not_in_one_transaction(orders, registry, heard):
    rows = 12000
    registry.listen("orders", "after_insert", heard, batch=True)
    series = {
        "sqlite": "INSERT INTO orders (item) WITH RECURSIVE s (n) AS (SELECT 1 UNION ALL"
        " SELECT n + 1 FROM s WHERE n < 12000) SELECT n FROM s",
        "postgresql": "INSERT INTO orders (item) SELECT n FROM generate_series(1, 12000) n",
    }

    with Hub(orders.url, registry, retention=2) as hub:
        orders.execute(series[orders.kind])
        heard.wait_for(rows)
        wait_for(lambda: log_size(orders) == 0)

    assert hub.status()["gaps"] == 0


def test_who_was_away_while_rows_were_cleaned_is_told_and_goes_on(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    away = Hub(orders.url, registry)
    away.poll()
    insert(orders, "cleaned")
    with Hub(orders.url, Registry(), retention=1):
        wait_for(lambda: log_size(orders) == 0)

    first = away.poll()
    told = list(gaps)
    insert(orders, "new")
    second = away.poll()
    third = away.poll()
    away.stop()

    assert (first, second, third) == (0, 1, 0)
    assert len(told) == 1 and "cleaned" in told[0]
    assert gaps == told
    assert heard.rest()[0].new["item"] == "new"


def test_who_had_read_what_was_cleaned_is_not_alarmed(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    away = Hub(orders.url, registry)
    away.poll()
    insert(orders, "read")
    read = away.poll()
    with Hub(orders.url, Registry(), retention=1):
        wait_for(lambda: log_size(orders) == 0)

    again = away.poll()
    away.stop()

    assert (read, again) == (1, 0)
    assert gaps == []


def test_what_commits_elsewhere_before_a_cleaning_alarms_nobody_who_had_read_all(
    orders, registry, heard, gaps
):
    registry.listen("orders", "after_insert", heard)
    away = Hub(orders.url, registry)
    away.poll()
    insert(orders, "read")
    read = away.poll()
    orders.execute("CREATE TABLE elsewhere (id int)")
    with Hub(orders.url, Registry(), retention=1):
        wait_for(lambda: log_size(orders) == 0)

    again = away.poll()
    insert(orders, "new")
    new = away.poll()
    away.stop()

    assert (read, again, new) == (1, 0, 1)
    assert gaps == []


def test_a_hub_that_starts_after_a_cleaning_is_not_alarmed(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    with Hub(orders.url, registry, retention=1):
        insert(orders, "old")
        wait_for(lambda: log_size(orders) == 0)

    with Hub(orders.url, registry) as hub:
        assert hub.drain()

    assert gaps == []


def test_two_hubs_keep_house_beside_each_other(orders, registry, heard):
    registry.listen("orders", "after_insert", heard)
    other = Registry()

    with Hub(orders.url, registry, retention=1), Hub(orders.url, other, retention=1):
        for n in range(5):
            insert(orders, str(n))
            heard.next()
        wait_for(lambda: log_size(orders) == 0)


def test_a_transaction_that_is_open_for_longer_is_not_cleaned_before_it_is_seen(
    postgres, registry, heard, gaps
):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard)
    away = Hub(postgres.url, registry)
    away.poll()
    slow = postgres.connect()
    slow.cursor().execute("INSERT INTO orders (item) VALUES ('slow')")

    with Hub(postgres.url, Registry(), retention=60) as keeper:
        insert(postgres, "quick")
        away.poll()
        clean_a_minute_later(postgres, keeper)
        left = log_size(postgres)
        slow.commit()
        for _ in range(5):
            keeper._parts.chores.clean()
        kept = log_size(postgres)
        away.poll()
        clean_a_minute_later(postgres, keeper)
    away.stop()

    assert (left, kept, log_size(postgres)) == (0, 1, 0)
    assert [event.new["item"] for event in heard.rest()] == ["quick", "slow"]
    assert gaps == []


def clean_a_minute_later(postgres, keeper):
    for _ in range(2):  # the first note may be one from before
        keeper._parts.chores.clean()
        postgres.execute("UPDATE pgevents.retention SET at = at - interval '60 s'")
    keeper._parts.chores.clean()


def test_rows_go_though_a_publication_takes_all_tables(postgres, registry, heard):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard)
    with Hub(postgres.url, registry, retention=1):
        postgres.execute("CREATE PUBLICATION everything FOR ALL TABLES")
        insert(postgres, "tea")
        wait_for(lambda: log_size(postgres) == 0)
