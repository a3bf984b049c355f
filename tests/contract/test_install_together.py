"""Several processes that start at once on a fresh database."""

import contextlib
import threading

from pgevents import Hub, Registry

from .. import processes

PROCESSES = 6


def listen(url, begin, started, heard, stop):
    """One of the processes: start with the others, listen, say what was heard."""
    registry = Registry()
    registry.listen("orders", "after_insert", lambda event: heard.put(event.new["item"]))
    begin.wait(60)
    with Hub(url, registry):
        started.release()
        stop.wait()


@contextlib.contextmanager
def starting_together(url):
    """Start the processes at once; give the queue of what they hear when all of them listen."""
    context = processes.context()
    begin, stop = context.Barrier(PROCESSES), context.Event()
    started, heard = context.Semaphore(0), context.Queue()
    running = [
        context.Process(target=listen, args=(url, begin, started, heard, stop))
        for _ in range(PROCESSES)
    ]
    for process in running:
        process.start()
    try:
        for _ in running:
            assert started.acquire(timeout=30)
        yield heard
    finally:
        stop.set()
        for process in running:
            process.join(20)
    assert [process.exitcode for process in running] == [0] * PROCESSES


def test_six_processes_start_at_once_and_all_of_them_listen(orders):
    with starting_together(orders.url) as heard:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        items = [heard.get(timeout=20) for _ in range(PROCESSES)]

    assert items == ["tea"] * PROCESSES


def test_six_services_in_threads_install_at_once_different_things(orders):
    moments = ["after_insert", "after_update", "after_delete"] * 2
    hubs = []
    for number, moment in enumerate(moments):
        registry = Registry()
        registry.listen("orders", moment, print)
        hubs.append(Hub(orders.url, registry, service="service{}".format(number)))
    threads = [threading.Thread(target=hub.install) for hub in hubs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    state = hubs[0].installed()[0]
    assert state["operations"] == ["insert", "update", "delete"]
    assert len(state["services"]) == 6
    assert state["state"] == "ok"
