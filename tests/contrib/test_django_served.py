"""The Django app under servers, and in a process that only listens."""

import collections
import json
import os
import signal
import socket
import subprocess
import sys
import urllib.request

from tests import command
from tests.contrib.test_django import databases, site
from tests.waiting import wait_for

STOP = 20  # seconds in which a server has to end

SITE = ["-m", "tests.contrib.djangosite"]
PRELOADED = "-m gunicorn --preload -w 2 --bind 127.0.0.1:{} tests.contrib.djangosite:application()"
RELOADED = "tests/contrib/djangosite.py manage runserver 127.0.0.1:{}"


INSERT = """
    INSERT INTO "Shop orders" ("State", total, gift)
    SELECT 'new', 1, t.gift FROM (SELECT 1 = 0 AS gift) AS t
"""


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


class Served:
    """A process of a site, and those that it starts."""

    def __init__(self, words, given):
        self.process = subprocess.Popen(
            [sys.executable, *words],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            env=command.environment(**given),
            cwd=str(command.ROOT),
            start_new_session=True,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()

    def terminate(self):
        """End it as a system does; return its exit code, and what it printed."""
        self.process.send_signal(signal.SIGTERM)
        printed, _ = self.process.communicate(timeout=STOP)
        return self.process.returncode, printed


def ask(port, path):
    """Ask a site; None while it does not answer yet."""
    try:
        with urllib.request.urlopen("http://127.0.0.1:{}/{}".format(port, path), timeout=10) as got:
            return json.loads(got.read())
    except OSError:
        return None


def test_the_workers_of_a_preloaded_gunicorn_have_a_hub_and_its_master_has_none(database):
    check_hubs(database, PRELOADED, 2)


def test_the_process_that_the_reloader_starts_has_a_hub_and_no_other(sqlite):
    check_hubs(sqlite, RELOADED, 1)


def check_hubs(database, line, workers):
    """Each of the workers receives each event, one of them that of a group, and nobody else."""
    given = {"SITE_DATABASES": json.dumps(databases(database)), "SITE_GROUP": "1"}
    site(database, "manage", "migrate", "-v0", **given)
    port = free_port()

    with Served(line.format(port).split(), given) as served:
        seen = {}

        def all_listen():
            answer = ask(port, "heard")
            if answer is not None:
                seen[answer["pid"]] = answer["state"]
            return len(seen) == workers and set(seen.values()) == {"listening"}

        wait_for(all_listen)
        orders = [ask(port, "order") for _ in range(12)]
        wait_for(lambda: len(database.execute("SELECT 1 FROM shop_customer")) >= len(orders))
        names = [name for (name,) in database.execute("SELECT name FROM shop_customer")]
        counts = collections.defaultdict(int)

        def all_have_heard():
            answer = ask(port, "heard")
            counts[answer["pid"]] = answer["heard"]
            return len(counts) == workers and set(counts.values()) == {len(orders)}

        wait_for(all_have_heard)
        served.terminate()

    assert sorted(name.split()[0] for name in names) == sorted(map(str, orders))
    assert {int(name.split()[1]) for name in names} <= {*seen}


def test_a_process_that_only_listens_finishes_at_term_and_ends_well(database):
    given = {"SITE_DATABASES": json.dumps(databases(database)), "SITE_GROUP": "1"}
    site(database, "manage", "migrate", "-v0", **given)

    with Served([*SITE, "manage", "pgevents", "run"], given) as running:
        line = running.process.stdout.readline()
        database.execute(INSERT)
        wait_for(lambda: database.execute("SELECT 1 FROM shop_customer"))
        code, printed = running.terminate()

    assert line == "listening: default\n" and (code, printed) == (0, "")


def test_the_verbs_of_the_command_need_no_url_and_check_finds_what_is_missing(database):
    printed = site(database, "commands", SITE_GROUP="1")

    status, done, *rest = printed.split("--")
    (row,) = json.loads(status)
    assert row["table"].endswith(".Shop orders") and row["state"] == "ok"
    assert done == "\nuninstalled from default\n"
    missing, installed, checked = rest
    assert "(pgevents.W004) the table Shop orders has no triggers" in missing
    assert installed == "\ninstalled in default\n" and "W004" not in checked
    # Groups on SQLite without immediate transactions.
    assert ("W002" in checked) == (database.kind == "sqlite")
