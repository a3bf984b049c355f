"""The command: what it prints, and what it does to the database."""

import contextlib
import json
import os
import signal

import pytest

from pgevents import Event, Hub, Registry

from . import command

SECRET = "hunter2"


@contextlib.contextmanager
def tailing(*words):
    """`pgevents tail` that listens."""
    process = command.start("tail", *words)
    try:
        said = []
        while not said or not said[-1].startswith("listening"):
            line = process.stderr.readline()
            assert line, "tail ended: {}".format(said)
            said.append(line)
        process.said = said
        yield process
    finally:
        process.kill()
        process.communicate()


def captured(database):
    return Hub(database.url, Registry()).installed()


# demo


def test_the_demo_hears_another_process_and_leaves_nothing_behind():
    code, out, err = command.run("demo")

    assert (code, err) == (0, "")
    assert "after_update    orders    1  status: 'new' → 'paid'" in out
    assert "6 events received, median latency" in out
    assert "1 transaction was rolled back: no event came of it." in out
    assert "a mistake" not in out.replace("VALUES ('a mistake'", "")
    assert not os.path.exists(out.splitlines()[0])


def test_the_demo_fails_when_what_was_committed_is_not_heard():
    deaf = (
        "import pgevents.life, pgevents.cli.demo as demo, pgevents.cli, sys;"
        " demo.PATIENCE = 0.1;"
        " pgevents.life.Delivery.__call__ = lambda self, events: 0;"
        " sys.argv = ['pgevents', 'demo']; pgevents.cli.main()"
    )
    code, _, err = command.run_python(deaf)

    assert code == 1
    assert "no event within" in err
    assert "Traceback" not in err


# tail


def test_tail_shows_each_change_in_a_line(orders):
    with tailing(orders.url, "orders", "--count", "3") as process:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        orders.execute("UPDATE orders SET status = 'paid'")
        orders.execute("DELETE FROM orders")
        code, out, err = command.finish(process)

    assert (code, err) == (0, "")
    assert [line.split("  ", 1)[1] for line in out.splitlines()] == [
        "after_insert    orders    1  id=1, item='tea', status='new'",
        "after_update    orders    1  status: 'new' → 'paid'",
        "after_delete    orders    1  id=1, item='tea', status='paid'",
    ]


def test_tail_in_json_prints_events_that_can_be_read_again(orders):
    with tailing(orders.url, "orders", "--json", "--count", "1") as process:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        _, out, _ = command.finish(process)

    event = Event.from_json(out)
    assert (event.moment, event.table, event.key) == ("after_insert", "orders", 1)
    assert event.new == {"id": 1, "item": "tea", "status": "new"}


def test_tail_shows_only_the_moments_that_are_asked_for(orders):
    moments = ("--moment", "after_update", "--moment", "after_delete")
    with tailing(orders.url, "orders", *moments, "--count", "2") as process:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        orders.execute("UPDATE orders SET status = 'paid'")
        orders.execute("DELETE FROM orders")
        _, out, _ = command.finish(process)

    assert [line.split()[1] for line in out.splitlines()] == ["after_update", "after_delete"]


def test_tail_ends_after_the_count_even_in_the_middle_of_a_transaction(orders):
    with tailing(orders.url, "orders", "--count", "2") as process:
        orders.execute("INSERT INTO orders (item) VALUES ('a'), ('b'), ('c'), ('d')")
        code, out, _ = command.finish(process)

    assert code == 0
    assert len(out.splitlines()) == 2


def test_tail_says_that_it_installed_triggers_and_where_they_are_does_not(orders):
    with tailing(orders.url, "orders") as first:
        assert first.said[0] == (
            "installed the log pgevents, and triggers on orders, for the service default:"
            " pgevents uninstall URL takes back all of that service\n"
        )

    with tailing(orders.url, "orders") as second:
        assert second.said == ["listening to orders, ctrl-C ends\n"]


def test_tail_names_the_options_that_take_back_what_it_installed(orders):
    command.run("install", orders.url, "orders", "--moment", "after_insert", "--schema", "shoplog")
    words = ("--service", "looker", "--schema", "shoplog")

    with tailing(orders.url, "orders", *words) as process:
        said = process.said[0]
    code = command.run("uninstall", orders.url, *words, "--yes")[0]
    (row,) = Hub(orders.url, Registry(), "shoplog").installed()

    assert said == (
        "installed triggers on orders, for the service looker: pgevents uninstall URL"
        " --service looker --schema shoplog takes back all of that service\n"
    )
    assert code == 0
    assert (row["services"], row["operations"]) == (["default"], ["insert"])


def test_tail_does_not_install_where_it_is_told_not_to(orders):
    code, out, err = command.run("tail", orders.url, "orders", "--no-install")

    assert (code, out) == (1, "")
    assert err.startswith("pgevents: ")
    assert len(err.splitlines()) == 1
    assert captured(orders) == []


def test_tail_does_not_capture_columns_that_were_left_out(orders):
    hub = Hub(orders.url, Registry(), service="shop")
    hub.watch("orders", exclude=["item"])
    hub.install()
    before = captured(orders)

    with tailing(orders.url, "orders", "--count", "1") as process:
        orders.execute("INSERT INTO orders (item) VALUES ('secret')")
        _, out, _ = command.finish(process)

    assert captured(orders) == before
    assert "secret" not in out


def test_tail_adds_what_is_missing_without_the_columns_that_were_left_out(orders):
    hub = Hub(orders.url, Registry(), service="shop")
    hub.watch("orders", "after_insert", exclude=["item"])
    hub.install()

    with tailing(orders.url, "orders", "--moment", "after_delete"):
        (row,) = captured(orders)

    assert row["operations"] == ["insert", "delete"]
    assert row["exclude"] == ["item"]


def test_tail_shows_no_control_characters(orders):
    with tailing(orders.url, "orders", "--count", "1") as process:
        orders.execute("INSERT INTO orders (item) VALUES (%s)", "\x1b[2Jgone\n")
        _, out, _ = command.finish(process)

    assert "item='\\x1b[2Jgone\\n'" in out


@pytest.mark.skipif(os.name == "nt", reason="signals are sent otherwise there")
def test_ctrl_c_ends_tail_without_a_complaint(orders):
    with tailing(orders.url, "orders") as process:
        process.send_signal(signal.SIGINT)
        code, out, err = command.finish(process)

    assert (code, out, err) == (0, "", "")


def test_tail_ends_when_nobody_reads_what_it_prints(orders):
    with tailing(orders.url, "orders") as process:
        process.stdout.close()
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        process.wait(command.TIMEOUT)

        assert process.returncode == 1
        assert "Traceback" not in process.stderr.read()


def test_tail_tells_when_it_lost_the_server_and_goes_on(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    with tailing(postgres.url, "orders", "--count", "1") as process:
        postgres.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        postgres.execute("INSERT INTO orders (item) VALUES ('tea')")
        code, out, err = command.finish(process)

    assert code == 0
    assert "item='tea'" in out
    assert "trying again" in err


# install, status, sql, uninstall


def test_what_install_captures_status_shows(orders):
    assert command.run("install", orders.url, "orders", "--exclude", "item", "--no-old")[0] == 0

    code, out, _ = command.run("status", orders.url, COLUMNS="200")
    assert code == 0
    assert [word for word in ("orders", "all but item", "key only", "ok") if word not in out] == []

    _, out, _ = command.run("status", orders.url, "--json")
    assert json.loads(out) == captured(orders)


def test_install_captures_only_what_is_asked_for(orders):
    command.run(
        "install",
        orders.url,
        "orders",
        "--moment",
        "after_insert",
        "--include",
        "status",
        "--service",
        "shop",
    )

    (row,) = captured(orders)
    assert (row["operations"], row["include"]) == (["insert"], ["id", "status"])  # and the key
    assert row["services"] == ["shop"]


def test_status_says_when_nothing_is_captured(orders):
    code, out, _ = command.run("status", orders.url)

    assert (code, out) == (0, "nothing is captured here; pgevents install URL TABLE does that\n")


def test_status_says_what_to_do_about_a_table_that_is_gone(orders):
    command.run("install", orders.url, "orders")
    orders.execute("DROP TABLE orders")

    _, out, _ = command.run("status", orders.url)

    assert "gone: the table was dropped" in out


def test_what_sql_prints_installs_what_is_needed(orders):
    code, script, _ = command.run("sql", orders.url, "orders")
    assert code == 0
    assert captured(orders) == []

    connection = orders.connect()
    if orders.kind == "sqlite":
        connection.executescript(script)
    else:
        connection.autocommit = True
        connection.cursor().execute(script)

    assert [row["state"] for row in captured(orders)] == ["ok"]
    with tailing(orders.url, "orders", "--no-install"):
        pass


def test_sql_for_a_role_is_refused_where_there_are_none(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")

    code, _, err = command.run("sql", sqlite.url, "orders", "--role", "shop_app")

    assert code == 1 and "SQLite has no roles" in err


def test_sql_for_a_role_grants_it_what_a_hub_needs(postgres):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY)")

    _, script, _ = command.run("sql", postgres.url, "orders", "--role", "shop_app")

    assert "GRANT" in script
    assert "shop_app" in script


def test_uninstall_takes_back_what_a_service_captured(orders):
    command.run("install", orders.url, "orders", "--service", "shop")
    command.run("install", orders.url, "orders", "--service", "reports")

    code, out, _ = command.run("uninstall", orders.url, "--service", "shop", "--yes")

    assert code == 0
    assert "no longer captured:" in out
    assert [row["services"] for row in captured(orders)] == [["reports"]]


def test_uninstall_everything_removes_all(orders):
    command.run("install", orders.url, "orders", "--service", "shop")

    assert command.run("uninstall", orders.url, "--everything", "--yes")[0] == 0

    assert captured(orders) == []


def test_uninstall_without_an_answer_changes_nothing(orders):
    command.run("install", orders.url, "orders")

    code, _, err = command.run("uninstall", orders.url)

    assert (code, err.strip()) == (1, "aborted")
    assert len(captured(orders)) == 1


def test_uninstall_names_the_services_when_there_is_no_such_one(orders):
    command.run("install", orders.url, "orders", "--service", "shop")

    code, out, _ = command.run("uninstall", orders.url, "--yes")

    assert (code, out) == (0, "the service 'default' captures nothing here; there is shop\n")
    assert len(captured(orders)) == 1


# What goes wrong


def test_an_unknown_table_is_one_sentence_with_the_near_names(orders):
    for words in (["tail"], ["install"], ["sql"]):
        code, out, err = command.run(*words, orders.url, "ordes")

        assert (code, out) == (1, "")
        assert err.startswith("pgevents: there is no table 'ordes'")
        assert "orders" in err
        assert len(err.splitlines()) == 1


def test_an_unknown_column_is_one_sentence_with_the_columns(orders):
    code, _, err = command.run("install", orders.url, "orders", "--exclude", "itme")

    assert code == 1
    assert "orders.itme, which is no column; there are id, item, status" in err
    assert captured(orders) == []


@pytest.mark.parametrize(
    "code, words",
    [
        (1, ["status", "postgresql://me:{}@127.0.0.1:1/shop"]),
        (1, ["tail", "postgresql://me:{}@127.0.0.1:1/shop", "orders"]),
        (1, ["status", "postgresql://me@127.0.0.1:1/shop?password={}"]),
        (1, ["status", "postgresql://me:{}@127.0.0.1:port/shop"]),
        (1, ["status", "postgresql://me:{}@127.0.0.1:1/shop?no_such_option=1"]),
        (1, ["status", "mysql://me:{}@127.0.0.1/shop"]),
        (1, ["tail", "postgresql://127.0.0.1:1/shop", "postgresql://me:{}@127.0.0.1:1/shop"]),
        (2, ["status", "me:{}@127.0.0.1/shop"]),
        (2, ["status", "a", "postgresql://me:{}@127.0.0.1:1/shop"]),
        (2, ["status", "a", "postgresql://me:p@ss/{}@127.0.0.1:1/shop"]),
        (2, ["postgresql://me:{}@127.0.0.1:1/shop"]),
        (2, ["status", "postgresql://h/shop", "--url=postgresql://me:{}@h/shop"]),
        (2, ["tail", "postgresql://me:{}@127.0.0.1:1/shop"]),
    ],
)
def test_a_wrong_url_is_told_without_its_password(code, words):
    ended, out, err = command.run(*[word.format(SECRET) for word in words])

    assert (ended, out) == (code, "")
    assert err
    assert SECRET not in err
    assert "Traceback" not in err
    assert code == 2 or len(err.splitlines()) == 1


def test_a_wrong_password_is_told_without_it(postgres):
    name = postgres.server.create_user("right")
    url = postgres.server.url(postgres.name, name, SECRET)

    code, out, err = command.run("status", url)

    assert (code, out) == (1, "")
    assert err.startswith("pgevents: PostgreSQL refuses: ")
    assert SECRET not in err


def test_a_file_that_is_not_there_is_one_sentence(tmp_path):
    code, out, err = command.run("status", "sqlite:///{}/no.db".format(tmp_path))

    assert (code, out) == (1, "")
    assert len(err.splitlines()) == 1
    assert not (tmp_path / "no.db").exists()


def test_an_unknown_moment_is_a_usage_error_with_the_choices(orders):
    code, _, err = command.run("tail", orders.url, "orders", "--moment", "before_insert")

    assert code == 2
    assert "after_insert" in err


def test_the_url_may_come_from_the_environment(orders):
    assert command.run("install", "orders", PGEVENTS_URL=orders.url)[0] == 0

    _, out, _ = command.run("status", "--json", PGEVENTS_URL=orders.url)
    assert [row["state"] for row in json.loads(out)] == ["ok"]


@pytest.mark.parametrize("words", [["tail"], ["tail", "orders"], ["status"]])
def test_without_a_url_the_way_to_give_one_is_told(words):
    code, _, err = command.run(*words, PGEVENTS_URL="")

    assert code == 2
    assert "URL" in err


@pytest.mark.parametrize(
    "word, url",
    [
        ("shop.db", "sqlite:///shop.db"),
        ("/var/shop.sqlite3", "sqlite:////var/shop.sqlite3"),
        (__file__, "sqlite:///" + __file__),
    ],
)
def test_a_path_in_place_of_a_url_is_answered_with_its_url(word, url):
    code, _, err = command.run("tail", word, "orders", PGEVENTS_URL="")

    assert code == 2
    assert "no database: give its URL first, {}, or set".format(url) in err


def test_the_former_name_of_postgresql_is_answered_with_its_own():
    code, _, err = command.run("status", "postgres://me@127.0.0.1:1/shop")

    assert code == 1
    assert err == "pgevents: no backend for 'postgres': write postgresql://… or sqlite:///…\n"


@pytest.mark.parametrize("missing", ["click", "rich"])
def test_without_the_extra_it_says_how_to_install_it(missing):
    program = (
        "import sys, runpy; sys.modules['{}'] = None;"
        " runpy.run_module('pgevents', run_name='__main__')".format(missing)
    )
    code, _, err = command.run_python(program)

    assert code == 1
    assert err == (
        "pgevents: the command needs {}, which is not installed:"
        " pip install 'sqlalchemy-pgevents[cli]'\n".format(missing)
    )


@pytest.mark.parametrize(
    "name",
    [
        "demo",
        "tail",
        "install",
        "uninstall",
        "status",
        "sql",
        "groups",
        "backfill",
        "dead",
        "retry",
        "discard",
        "pause",
        "resume",
        "rewind",
        "drop",
    ],
)
def test_every_command_explains_itself(name):
    code, out, _ = command.run(name, "--help")

    assert code == 0
    assert out.startswith("Usage: pgevents {} [OPTIONS]".format(name))
    assert name == "demo" or "Examples:\n" in out
