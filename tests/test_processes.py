"""Forks, exits, and many processes: each in a Python of its own."""

import subprocess
import sys
import textwrap

import pytest

from . import command

TIMEOUT = 60  # seconds
#: Python 3.12 and later warn that threads are not forked along: that is what we test.
QUIET = ("-W", "ignore::DeprecationWarning")

HEAD = """
import os, sys, threading, time
from pgevents import Hub, Registry
from pgevents.testing import wait_until

url = sys.argv[1]
registry = Registry()
heard = []
registry.listen("orders", "after_insert", lambda event: heard.append(event.new["item"]))
hub = Hub(url, registry)

def insert(*items):
    import sqlalchemy
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:", 1))
    with engine.begin() as connection:
        for item in items:
            connection.execute(
                sqlalchemy.text("INSERT INTO orders (item) VALUES (:item)"), {"item": item})
    engine.dispose()

def wait_for(condition):
    wait_until(condition, 20)
"""


def run(database, script, *words):
    """Run a script that begins with HEAD; return exit code, stdout, stderr."""
    process = subprocess.run(
        [sys.executable, *QUIET, "-c", HEAD + textwrap.dedent(script), database.url, *words],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=command.environment(),
        timeout=TIMEOUT,
    )
    return process.returncode, process.stdout, process.stderr


def test_after_a_fork_both_processes_hear_everything(orders):
    code, out, err = run(orders, """
        hub.start()
        insert("before")
        wait_for(lambda: heard == ["before"])
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            del heard[:]
            assert hub.wait_ready(20)
            os.write(writing, b"r")
            wait_for(lambda: "b" in heard)
            hub.stop()
            print("child", heard, flush=True)
            os._exit(0)
        os.read(reading, 1)
        insert("a", "b")
        wait_for(lambda: "b" in heard)
        os.waitpid(pid, 0)
        insert("c")
        wait_for(lambda: "c" in heard)
        print("parent", heard, hub.status()["connects"], flush=True)
        hub.stop()
    """)

    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == [
        "child ['a', 'b']",
        "parent ['before', 'a', 'b', 'c'] 1",
    ]


def test_without_fork_hooks_the_next_call_notices(orders):
    # As under uWSGI, which forks in C.
    code, out, err = run(orders, """
        hub.start()
        reading, writing = os.pipe()
        saved = hub._notice_fork
        hub._notice_fork = lambda: None  # the hook does nothing …
        pid = os.fork()
        hub._notice_fork = saved  # … but the first call does
        if pid == 0:
            hub.start()
            assert hub.wait_ready(20)
            os.write(writing, b"r")
            wait_for(lambda: heard == ["a"])
            os._exit(0)
        os.read(reading, 1)
        insert("a")
        wait_for(lambda: heard == ["a"])
        print(os.waitpid(pid, 0)[1], hub.status()["connects"])
        hub.stop()
    """)

    assert (code, out, err) == (0, "0 1\n", "")


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_multiprocessing_goes_on_beside_a_hub(orders, method, tmp_path):
    script = tmp_path / "script.py"
    script.write_text(HEAD + textwrap.dedent("""
        import multiprocessing

        def work(number):
            return number * 2

        if __name__ == "__main__":
            hub.start()
            with multiprocessing.get_context(sys.argv[2]).Pool(2) as pool:
                assert pool.map(work, range(10)) == [n * 2 for n in range(10)]
            insert("a")
            wait_for(lambda: heard == ["a"])
            hub.stop()
            print("done")
    """))
    process = subprocess.run(
        [sys.executable, *QUIET, str(script), orders.url, method],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=command.environment(),
        timeout=TIMEOUT,
    )

    assert (process.returncode, process.stdout, process.stderr) == (0, "done\n", "")


def test_workers_that_a_preloading_server_forks_each_hear_everything(orders):
    code, out, err = run(orders, """
        hub.start()
        reading, writing = os.pipe()
        workers = []
        for _ in range(3):
            pid = os.fork()
            if pid == 0:
                assert hub.wait_ready(20)
                os.write(writing, b"r")
                wait_for(lambda: len(heard) == 20)
                hub.stop()
                os._exit(0 if heard == [str(n) for n in range(20)] else 1)
            workers.append(pid)
        for _ in workers:
            os.read(reading, 1)
        insert(*map(str, range(20)))
        print([os.waitpid(pid, 0)[1] for pid in workers])
        hub.stop()
    """)

    assert (code, out, err) == (0, "[0, 0, 0]\n", "")


def test_a_group_in_forked_workers_handles_each_event_once(orders):
    orders.execute("CREATE TABLE effects (item text)")
    code, out, err = run(orders, """
        import sqlalchemy
        registry.remove("orders", "after_insert", registry.all()[0][0].fn)
        def effect(event, connection):
            connection.execute(
                sqlalchemy.text("INSERT INTO effects VALUES (:item)"), {"item": event.new["item"]})
        registry.listen("orders", "after_insert", effect, group="g", transactional=True)
        hub.start()
        reading, writing = os.pipe()
        pid = os.fork()
        if pid == 0:
            assert hub.wait_ready(20)
            os.write(writing, b"r")
            wait_for(lambda: hub.group("g").lag()[0] == 0)
            hub.stop()
            os._exit(0)
        os.read(reading, 1)
        insert(*map(str, range(200)))
        wait_for(lambda: hub.group("g").lag()[0] == 0)
        print(os.waitpid(pid, 0)[1])
        hub.stop()
    """)

    assert (code, out, err) == (0, "0\n", "")
    assert orders.execute("SELECT count(*), count(DISTINCT item) FROM effects") == [(200, 200)]


def test_the_interpreter_exits_with_a_running_hub(orders):
    code, out, err = run(orders, """
        hub.start()
        print("end")
    """)

    assert (code, out, err) == (0, "end\n", "")


def test_the_interpreter_exits_during_a_listener_that_takes_minutes(orders):
    code, out, err = run(orders, """
        import logging
        logging.disable(logging.WARNING)
        began = threading.Event()
        def slow(event):
            began.set()
            threading.Event().wait(600)
        registry.listen("orders", "after_insert", slow)
        hub.start()
        insert("a")
        assert began.wait(20)
        print("end")
    """)

    assert (code, out, err) == (0, "end\n", "")


def test_a_hub_works_with_more_than_a_thousand_open_files(orders):
    code, out, err = run(orders, """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (min(2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
        files = [open(os.devnull) for _ in range(1100)]
        hub.start()
        insert("a")
        wait_for(lambda: heard == ["a"])
        hub.stop()
        print("done")
    """)

    assert (code, out, err) == (0, "done\n", "")
