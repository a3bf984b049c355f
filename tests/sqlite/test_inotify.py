"""The kernel tells that the file is written; where it does not, it is looked at."""

import logging
import sys

import pytest

from pgevents import Hub
from pgevents.delivery import source
from pgevents.sqlite import log
from pgevents.sqlite.inotify import Inotify

from ..waiting import wait_for

FOR_EVER = 60.0  # seconds; longer than a listener's event is waited for

needs_inotify = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has inotify")


@pytest.fixture
def orders(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item TEXT)")
    return sqlite


@pytest.fixture
def told():
    """Give an Inotify of some files."""
    made = []

    def told(*paths):
        made.append(Inotify(map(str, paths)))
        return made[-1]

    yield told
    for one in made:
        one.close()


@needs_inotify
def test_a_write_is_told_once_and_a_read_is_not(tmp_path, told):
    path = tmp_path / "file"
    path.write_text("before")
    kernel = told(path)

    path.read_text()
    after_read = kernel.heard()
    path.write_text("after")

    assert not after_read
    assert kernel.heard()
    assert not kernel.heard()


@needs_inotify
def test_a_file_that_comes_into_being_is_told_of_when_it_is_taken_in(tmp_path, told):
    path = tmp_path / "file"
    kernel = told(path)
    path.touch()

    kernel.renew()
    path.write_text("written")

    assert kernel.heard()


@needs_inotify
@pytest.mark.parametrize("mode", ["delete", "wal"])
def test_a_hub_that_does_not_look_hears_from_the_kernel(orders, registry, heard, monkeypatch, mode):
    orders.execute("PRAGMA journal_mode = {}".format(mode))
    monkeypatch.setattr(log, "QUICK", FOR_EVER)
    monkeypatch.setattr(log, "SLOW_TOLD", FOR_EVER)
    monkeypatch.setattr(log, "POKED_FOR", FOR_EVER)
    monkeypatch.setattr(source, "IDLE", FOR_EVER)
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry) as hub:
        assert hub.drain()
        orders.execute("INSERT INTO orders (item) VALUES ('a')")

        assert heard.next().new["item"] == "a"


@needs_inotify
def test_a_kernel_that_tells_nothing_is_not_relied_on(orders, registry, heard, monkeypatch, caplog):
    caplog.set_level(logging.INFO, "pgevents")
    monkeypatch.setattr(Inotify, "renew", lambda self: None)
    monkeypatch.setattr(log, "DEAF_AFTER", 0.0)
    registry.listen("orders", "after_insert", heard)

    def said_after_an_event():
        orders.execute("INSERT INTO orders (item) VALUES ('a')")
        heard.next()
        # A reader that had not gone to sleep has not waited for the kernel.
        return "the kernel does not report" in caplog.text

    with Hub(orders.url, registry):
        wait_for(said_after_an_event)
        orders.execute("INSERT INTO orders (item) VALUES ('b')")
        assert heard.next().new["item"] == "b"


def test_without_inotify_the_file_is_looked_at(orders, registry, heard, monkeypatch):
    monkeypatch.setattr(Inotify, "of", classmethod(lambda cls, paths: None))
    registry.listen("orders", "after_insert", heard)

    with Hub(orders.url, registry):
        orders.execute("INSERT INTO orders (item) VALUES ('a')")

        assert heard.next().new["item"] == "a"
