"""The names of our tables and indexes, where somebody else has them already."""

import pytest

from pgevents import Denied, Hub, Registry

from ..waiting import wait_for

MADE = {
    "index": ("CREATE TABLE theirs (id int); CREATE INDEX log_xid ON theirs (id)", "an index on"),
    "table": ("CREATE TABLE log_xid (id int)", "a table"),
    "view": ("CREATE VIEW log AS SELECT 1 AS seq", "a view"),
    "sequence": ("CREATE SEQUENCE leases_due", "a sequence"),
    "domain": ("CREATE DOMAIN watch AS text", "a type"),
    "composite": ("CREATE TYPE log AS (id int)", "a type"),
}


@pytest.fixture
def orders(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    return postgres


@pytest.fixture
def hub(orders, heard):
    registry = Registry()
    registry.listen("orders", "after_insert", heard)
    return Hub(orders.url, registry)


def warnings_of(hub):
    hub._backend.look(hub._upkeep.specs.targets())
    return hub._backend.warnings.all()


def statement_in(sentence):
    return sentence.split(": run ")[1]


@pytest.mark.every_server
@pytest.mark.parametrize("kind", MADE)
def test_what_has_the_name_of_ours_is_named_with_the_statement_that_helps(orders, hub, heard, kind):
    made, said = MADE[kind]
    orders.execute("CREATE SCHEMA pgevents")
    orders.execute("SET search_path = pgevents; " + made)

    with pytest.raises(Denied, match="is {}.* so pgevents cannot make".format(said)) as refused:
        hub.install()
    orders.execute(statement_in(str(refused.value)))

    with hub:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert heard.next().new["item"] == "tea"
        assert hub.status()["warnings"] == []


@pytest.mark.parametrize("columns", ["operation", "seq, xid"])
def test_an_index_of_other_columns_under_our_name_is_said(orders, hub, columns):
    hub.install()
    orders.execute(
        "DROP INDEX pgevents.log_xid; CREATE INDEX log_xid ON pgevents.log ({})".format(columns)
    )

    (said,) = warnings_of(hub)
    orders.execute(statement_in(said))
    (lacking,) = warnings_of(hub)
    orders.execute(statement_in(lacking))

    assert "pgevents.log_xid is an index on pgevents.log, so pgevents cannot make" in said
    assert "the index pgevents.log_xid is not there" in lacking
    assert warnings_of(hub) == []


def test_a_running_hub_says_which_index_somebody_dropped(orders, hub, heard):
    with hub:
        orders.execute("DROP INDEX pgevents.leases_owned")
        orders.execute("GRANT SELECT ON pgevents.log TO PUBLIC")  # so that it looks again at once
        (said,) = wait_for(lambda: hub.status()["warnings"])
        orders.execute(statement_in(said))
        orders.execute("REVOKE SELECT ON pgevents.log FROM PUBLIC")
        wait_for(lambda: hub.status()["warnings"] == [])

    assert "pgevents.leases_owned is not there: run CREATE INDEX CONCURRENTLY" in said
    assert "WHERE owner IS NOT NULL" in said


def test_an_index_that_is_not_valid_is_said(orders, hub):
    hub.install()
    orders.execute(
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'pgevents.log_xid'::regclass"
    )

    (said,) = warnings_of(hub)
    orders.execute(statement_in(said))

    assert "the index pgevents.log_xid is not valid: run REINDEX" in said
    assert warnings_of(hub) == []
