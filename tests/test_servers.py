"""The test bed itself: what other tests take for granted about servers and proxies."""

import os
import select
import subprocess
import sys
import time

import psycopg2
import psycopg2.extras
import pytest

from . import servers as postgresql
from .proxy import Proxy

SILENCE = 0.2  # seconds without an answer that count as none


@pytest.fixture
def client(postgres, proxy):
    """A connection through the proxy."""
    connection = psycopg2.connect(postgres.through(proxy).replace("+psycopg2", ""))
    connection.autocommit = True
    yield connection
    connection.close()


def ask(connection, sql="SELECT 1"):
    with connection.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def wait_until(state, timeout=10):
    deadline = time.monotonic() + timeout
    while not state():
        assert time.monotonic() < deadline, "it did not happen"
        select.select([], [], [], 0.005)


@pytest.mark.every_server
def test_a_server_is_of_the_version_it_claims(server):
    [(number,)] = server.execute("SHOW server_version_num")

    assert int(number) // 10000 == server.major


@pytest.mark.every_server
@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_a_restarted_server_has_its_port_and_its_data(postgres, mode):
    postgres.execute("CREATE TABLE kept (n int)")
    postgres.execute("INSERT INTO kept VALUES (%s)", 7)

    postgres.server.restart(mode)

    assert postgres.execute("SELECT n FROM kept") == [(7,)]


def test_a_stopped_server_takes_no_connection(server):
    server.stop()

    with pytest.raises(psycopg2.OperationalError):
        server.connect()


def test_a_server_that_cannot_start_shows_its_log(server):
    server.stop()
    configuration = server.data / "postgresql.conf"
    good = configuration.read_text()
    configuration.write_text(good + "no_such_setting = 1\n")

    try:
        with pytest.raises(postgresql.ServerFailed, match="no_such_setting"):
            server.start()
    finally:
        configuration.write_text(good)


def test_a_user_with_a_password_has_to_know_it(server):
    user = server.create_user(password="o'pen/sesame")

    server.connect(user=user, password="o'pen/sesame").close()
    with pytest.raises(psycopg2.OperationalError):
        server.connect(user=user, password="wrong")


def test_a_database_is_dropped_in_spite_of_sessions_and_prepared_transactions(server):
    name = server.create_database()
    connection = server.connect(name)
    connection.tpc_begin(connection.xid(1, "left", "behind"))
    connection.cursor().execute("CREATE TABLE t ()")
    connection.tpc_prepare()

    server.drop_database(name)

    assert server.execute("SELECT 1 FROM pg_database WHERE datname = %s", name) == []
    connection.close()


def test_a_database_of_each_kind_has_the_same_methods(database):
    database.execute("CREATE TABLE items (name text)")
    database.execute("INSERT INTO items VALUES (%s)", "50%s")
    connection = database.connect()
    connection.cursor().execute("DELETE FROM items")

    assert database.kind in database.url
    assert database.execute("SELECT name FROM items") == [("50%s",)]


def test_a_killed_test_run_leaves_nothing_behind(server):
    script = (
        "from tests.servers import *; import os, sys, signal\n"
        "server = Server(Installation(sys.argv[1])).start()\n"
        "print(server.directory.parent, home().path, server._process.pid, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    bin = str(server.installation.bin)

    killed = subprocess.run(
        [sys.executable, "-c", script, bin],
        stdout=subprocess.PIPE,
        cwd=os.path.dirname(os.path.dirname(__file__)),
    )

    *paths, pid = killed.stdout.split()
    wait_until(lambda: not any(map(os.path.exists, paths)))
    assert not os.path.exists("/proc/{}/cwd".format(pid.decode()))


def test_a_proxy_forwards_more_than_fits_into_a_buffer(client, proxy):
    sent = "x" * 5000000

    assert ask(client, "SELECT '{}'".format(sent)) == sent
    assert proxy.connections == 1


def test_a_closed_connection_leaves_the_proxy(client, proxy):
    ask(client)

    client.close()

    wait_until(lambda: proxy.connections == 0)


def test_a_frozen_proxy_lets_nothing_pass_until_it_thaws(postgres, proxy):
    connection = psycopg2.connect(postgres.through(proxy).replace("+psycopg2", ""), async_=1)
    psycopg2.extras.wait_select(connection)
    proxy.freeze()
    cursor = connection.cursor()
    cursor.execute("SELECT 1")
    connection.poll()

    assert select.select([connection], [], [], SILENCE) == ([], [], [])
    assert proxy.connections == 1
    proxy.thaw()
    psycopg2.extras.wait_select(connection)
    assert cursor.fetchone() == (1,)
    connection.close()


def test_a_frozen_proxy_hides_that_the_other_end_has_gone(client, proxy, postgres):
    proxy.freeze()

    postgres.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )

    assert select.select([client], [], [], SILENCE) == ([], [], [])
    proxy.thaw()
    with pytest.raises(psycopg2.OperationalError):
        ask(client)


def test_a_frozen_proxy_takes_no_word_of_a_new_connection(server, proxy):
    proxy.freeze()

    with pytest.raises(psycopg2.OperationalError, match="timeout"):
        psycopg2.connect(server.url(port=proxy.port, driver="postgresql"), connect_timeout=2)


def test_a_cut_breaks_each_connection_at_once(client, proxy):
    proxy.cut()

    assert proxy.connections == 0
    with pytest.raises(psycopg2.OperationalError):
        ask(client)


def test_a_forked_child_does_not_keep_a_cut_connection_alive(client, proxy):
    ask(client)
    waiting, release = os.pipe()
    child = os.fork()
    if not child:
        os.close(release)
        os.read(waiting, 1)
        os._exit(0)

    proxy.cut()

    assert select.select([client], [], [], 10)[0] == [client]
    os.close(release)
    os.waitpid(child, 0)
    os.close(waiting)


def test_a_cut_is_possible_in_a_frozen_proxy(client, proxy):
    proxy.freeze()
    proxy.cut()

    with pytest.raises(psycopg2.OperationalError):
        ask(client)


def test_a_refusing_proxy_keeps_its_connections_and_accepts_on_the_same_port(client, proxy, server):
    url = server.url(port=proxy.port, driver="postgresql")

    proxy.refuse()
    with pytest.raises(psycopg2.OperationalError, match="refused"):
        psycopg2.connect(url)
    assert ask(client) == 1

    proxy.accept()
    psycopg2.connect(url).close()


def test_a_proxy_without_a_server_resets_its_clients():
    with Proxy(postgresql.free_port()) as proxy:
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(host=proxy.host, port=proxy.port, user="x", dbname="x")


def test_a_proxy_can_be_stopped_twice(server):
    proxy = Proxy(server.port)

    proxy.stop()
    proxy.stop()
