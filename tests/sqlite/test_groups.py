"""Groups on SQLite: whether a process lives is asked of the system."""

import gc
import pathlib
import socket
import subprocess
import time
import warnings

import pytest

from pgevents import Hub, Registry

from ..waiting import wait_for


def state_of(process):
    text = pathlib.Path("/proc/{}/stat".format(process.pid)).read_text()
    return text.rpartition(")")[2].split()[0]


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="there is no /proc here")
def test_a_process_whose_end_nobody_has_noticed_yet_is_dead(sqlite, registry, heard):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard, group="mailer")
    hub = Hub(sqlite.url, registry)
    with hub:
        sqlite.execute("INSERT INTO orders (item) VALUES ('a')")
        first = heard.next()
        wait_for(lambda: not sqlite.execute("SELECT 1 FROM pgevents_leases"))
    dead = subprocess.Popen(["true"])
    wait_for(lambda: state_of(dead) == "Z")
    sqlite.execute(
        "INSERT INTO pgevents_leases (group_name, seqs, attempt, owner, renewed, due)"
        " VALUES ('mailer', %s, 1, %s, %s, %s)",
        str(first.position),
        "{}:{}:1".format(socket.gethostname(), dead.pid),
        time.time() - 2,
        time.time() + 3600,
    )

    with hub:
        event = heard.next(20)
    dead.wait()

    assert event.redelivered


def test_a_hub_that_was_only_asked_leaves_no_connection_open(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item text)")
    hub = Hub(sqlite.url, Registry())
    hub.install()

    with warnings.catch_warnings(record=True) as told:  # from Python 3.13 on
        warnings.simplefilter("always")
        assert hub.groups() == []
        del hub
        gc.collect()

    assert [str(warning.message) for warning in told] == []


@pytest.mark.parametrize("first", ["INTEGER", "TEXT", "REAL", "BLOB"])
def test_a_backfill_keeps_each_values_type_whatever_the_columns_before_it_are(
    sqlite, registry, heard, first
):
    sqlite.execute("CREATE TABLE t (a {}, b TEXT, c INTEGER, d REAL, e BLOB)".format(first))
    sqlite.execute("INSERT INTO t VALUES ('7', '007', 7, 7.0, '7')")
    registry.listen("t", "after_insert", heard, group="g")
    hub = Hub(sqlite.url, registry)
    hub.group("g", start="backfill")

    with hub:
        event = heard.next()

    (kept,) = sqlite.execute("SELECT * FROM t")
    assert repr(tuple(event.new.values())) == repr(kept)
