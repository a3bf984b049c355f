"""A hub that starts for the first time has missed nothing, however long its install takes."""

import threading
import time

from pgevents import Hub, Registry

from ..waiting import wait_for


def test_an_install_that_waits_for_a_lock_is_no_gap(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    writer = orders.connect()
    writer.cursor().execute("INSERT INTO orders (item) VALUES ('before')")

    # The house is kept every quarter of a second, but not before there is one.
    hub = Hub(orders.url, registry, retention=1).start(wait=False)
    begun = time.monotonic()
    wait_for(lambda: time.monotonic() > begun + 1)
    early = hub.status()["state"]
    writer.commit()
    assert hub.wait_ready(20)
    orders.execute("INSERT INTO orders (item) VALUES ('tea')")
    item = heard.next().new["item"]
    hub.stop()

    assert (early, item) == ("connecting", "tea")
    assert gaps == []


def test_what_another_process_is_installing_is_no_gap(orders, registry, heard, gaps):
    registry.listen("orders", "after_insert", heard)
    over = threading.Event()
    other = Hub(orders.url, Registry(), service="other")
    other.watch("orders")

    def come_and_go():
        while not over.is_set():
            other.install()
            other.uninstall()

    with Hub(orders.url, registry) as hub:
        thread = threading.Thread(target=come_and_go)
        thread.start()
        begun = time.monotonic()
        while time.monotonic() < begun + 2:
            hub._parts.chores.check_capture()
        over.set()
        thread.join()

    assert gaps == []
