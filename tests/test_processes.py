"""Forks, exits, and many processes: each in a Python of its own."""

import http.client
import os
import subprocess
import sys
import textwrap

import pytest

from . import command
from .servers import free_port
from .waiting import wait_for

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

def run(*statements):
    import sqlalchemy
    engine = sqlalchemy.create_engine(url.replace("postgresql:", "postgresql+psycopg2:", 1))
    with engine.begin() as connection:
        for statement in statements:
            connection.execute(sqlalchemy.text(statement))
    engine.dispose()

def insert(*items):
    run(*["INSERT INTO orders (item) VALUES ('{}')".format(item) for item in items])

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
    code, out, err = run(
        orders,
        """
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
    """,
    )

    assert (code, err) == (0, "")
    assert sorted(out.splitlines()) == [
        "child ['a', 'b']",
        "parent ['before', 'a', 'b', 'c'] 1",
    ]


def test_a_hub_that_is_forked_leaves_uninstalled_what_is(orders):
    code, out, err = run(
        orders,
        """
        registry.listen("orders", "after_insert", print, group="mailer")  # the log stays for it
        with hub:
            Hub(url, Registry()).uninstall()
            reading, writing = os.pipe()
            pid = os.fork()
            if pid == 0:
                hub.wait_ready()
                os.write(writing, " ".join(hub.status()["warnings"]).encode())
                os._exit(0)
            os.waitpid(pid, 0)
            print(os.read(reading, 10000).decode(), [t["table"] for t in hub.installed()])
        """,
    )

    assert (code, err.count("Traceback")) == (0, 0)
    assert "the service 'default' was uninstalled" in out
    assert out.endswith(" []\n")


def test_without_fork_hooks_the_next_call_notices(orders):
    # As under uWSGI, which forks in C.
    code, out, err = run(
        orders,
        """
        hub.start()
        reading, writing = os.pipe()
        life = hub._life
        saved = life.notice_fork
        life.notice_fork = lambda: None  # the hook does nothing …
        pid = os.fork()
        life.notice_fork = saved  # … but the first call does
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
    """,
    )

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
    code, out, err = run(
        orders,
        """
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
    """,
    )

    assert (code, out, err) == (0, "[0, 0, 0]\n", "")


def test_a_group_in_forked_workers_handles_each_event_once(orders):
    orders.execute("CREATE TABLE effects (item text)")
    code, out, err = run(
        orders,
        """
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
    """,
    )

    assert (code, out) == (0, "0\n")
    # On SQLite each may have met the other in a transaction, which is a warning.
    assert all("wrote while others were in a transaction" in line for line in err.splitlines())
    assert orders.execute("SELECT count(*), count(DISTINCT item) FROM effects") == [(200, 200)]


def test_the_interpreter_exits_with_a_running_hub(orders):
    code, out, err = run(
        orders,
        """
        hub.start()
        print("end")
    """,
    )

    assert (code, out, err) == (0, "end\n", "")


def test_the_interpreter_exits_during_a_listener_that_takes_minutes(orders):
    code, out, err = run(
        orders,
        """
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
    """,
    )

    assert (code, out, err) == (0, "end\n", "")


def test_a_hub_works_with_more_than_a_thousand_open_files(orders):
    code, out, err = run(
        orders,
        """
        import resource
        resource.setrlimit(resource.RLIMIT_NOFILE,
                           (min(2048, resource.getrlimit(resource.RLIMIT_NOFILE)[1]),) * 2)
        files = [open(os.devnull) for _ in range(1100)]
        hub.start()
        insert("a")
        wait_for(lambda: heard == ["a"])
        hub.stop()
        print("done")
    """,
    )

    assert (code, out, err) == (0, "done\n", "")


@pytest.mark.skipif(not os.path.exists("/proc/self/status"), reason="no /proc tells the memory")
def test_a_transaction_of_a_hundred_thousand_rows_takes_no_more_memory_than_a_page(orders):
    code, out, err = run(
        orders,
        """
        def peak():
            with open("/proc/self/status") as status:
                line, = [line for line in status if line.startswith("VmHWM")]
            return int(line.split()[1]) / 1000  # MB

        registry.remove("orders", "after_insert", registry.all()[0][0].fn)
        keys = []
        registry.listen("orders", "after_insert", lambda event: keys.append(event.new["id"]))
        hub.start()
        before = peak()
        run("WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 100000)"
            " INSERT INTO orders (item) SELECT '" + 1000 * "y" + "' FROM n")
        wait_until(lambda: len(keys) == 100000, 60)
        assert keys == list(range(1, 100001))
        assert peak() - before < 60, peak() - before
        hub.stop()
    """,
    )

    assert (code, out, err) == (0, "", "")


def test_a_child_that_ends_as_programs_do_leaves_its_parent_alone(orders):
    code, out, err = run(
        orders,
        """
        hub.start()
        pid = os.fork()
        if pid == 0:
            assert hub.wait_ready(20)
            sys.exit(7)
        status = os.waitpid(pid, 0)[1]
        insert("a")
        wait_for(lambda: heard == ["a"])
        print(os.WEXITSTATUS(status), hub.status()["connects"])
    """,
    )

    assert (code, out, err) == (0, "7 1\n", "")


def test_a_fork_inside_a_listener_disturbs_nobody(orders):
    code, out, err = run(
        orders,
        """
        reading, writing = os.pipe()
        pids = []
        def fork(event):
            pid = os.fork()
            if pid == 0:
                del heard[:]
                assert hub.wait_ready(20)
                os.write(writing, b"r")
                wait_for(lambda: len(heard) == 20)
                os._exit(0 if heard == [str(n) for n in range(20)] else 1)
            pids.append(pid)
        registry.listen("orders", "after_insert", fork, where={"item": "fork"})
        hub.start()
        insert("fork")
        os.read(reading, 1)
        insert(*map(str, range(20)))
        wait_for(lambda: heard == ["fork"] + [str(n) for n in range(20)])
        print([os.waitpid(pid, 0)[1] for pid in pids], hub.status()["connects"])
        hub.stop()
    """,
    )

    assert (code, out, err) == (0, "[0] 1\n", "")


def test_what_a_forked_process_commits_to_a_wal_file_stays(sqlite):
    # SQLite's locks are not inherited, but a child might take its parent's for
    # its own: without any, whoever else closes the file removes the child's WAL.
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY, item text)")
    sqlite.execute("PRAGMA journal_mode = wal")
    code, out, err = run(
        sqlite,
        """
        import signal, sqlite3, subprocess
        hub.start()
        path, parent = url[len("sqlite:///"):], os.getpid()
        if os.fork() == 0:
            connection = sqlite3.connect(path, isolation_level=None)
            connection.execute("INSERT INTO orders (item) VALUES ('before')")
            os.kill(parent, signal.SIGKILL)
            wait_for(lambda: os.getppid() != parent)
            subprocess.check_call([sys.executable, "-c", '''
        import sqlite3, sys
        sqlite3.connect(sys.argv[1]).execute("SELECT * FROM orders").fetchall()
            '''.replace("        ", ""), path])
            connection.execute("INSERT INTO orders (item) VALUES ('after')")
            os.write(1, b"written")
            os._exit(0)
        threading.Event().wait(60)
    """,
    )

    assert (code, out, err) == (-9, "written", "")
    assert sqlite.execute("SELECT item FROM orders") == [("before",), ("after",)]


def test_the_interpreter_exits_though_the_hub_cannot_connect(tmp_path):
    address = "postgresql://127.0.0.1:{}/shop".format(free_port())

    code, out, err = run(
        Nowhere(address),
        """
        import logging
        logging.disable(logging.WARNING)
        hub.start(wait=False)
        wait_for(lambda: hub.status()["error"])
        print(hub.status()["state"])
    """,
    )

    assert (code, out, err) == (0, "connecting\n", "")


def test_an_error_of_the_program_is_told_alone(orders):
    code, out, err = run(
        orders,
        """
        hub.start()
        raise SystemExit("my own error")
    """,
    )

    assert (code, out, err) == (1, "", "my own error\n")


def test_the_workers_of_gunicorn_hear_everything(orders, tmp_path):
    (tmp_path / "shop.py").write_text(HEAD.replace("sys.argv[1]", "os.environ['SHOP']") + """
hub.start()

def application(environ, start_response):
    start_response("200 OK", [("Connection", "close")])
    return ["{} {}".format(os.getpid(), ",".join(heard)).encode()]
""")
    port = free_port()
    server = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "gunicorn",
            "--preload",
            "-w",
            "3",
            "-b",
            "127.0.0.1:{}".format(port),
            "shop:application",
        ],
        cwd=str(tmp_path),
        env=command.environment(SHOP=orders.url),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    found = {}

    def all_answer(wanted):
        found.update(answer(port))
        return len(found) == 3 and set(found.values()) == {wanted}

    try:
        wait_for(lambda: all_answer(""))
        for item in "abc":
            orders.execute("INSERT INTO orders (item) VALUES (%s)", item)
        wait_for(lambda: all_answer("a,b,c"))
    finally:
        server.terminate()
        code = server.wait(TIMEOUT)

    assert code == 0


def answer(port):
    """Ask a worker; return its number and what it has heard, or nothing if there is none yet."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/")
        number, _, heard = connection.getresponse().read().decode().partition(" ")
    except OSError:
        return {}
    finally:
        connection.close()
    return {number: heard}


class Nowhere:
    """A database at an address where there is none."""

    def __init__(self, url):
        self.url = url
