"""The Django app, in sites of Django's own, each in a process of its own, on both databases."""

import json
import subprocess
import sys

import django
import pytest

from tests import command

NO_NAME = "" if django.VERSION >= (4, 0) else "x"  # beside a service; older ones need a name
TIMEOUT = 60  # seconds in which a site has to end


def databases(database, **more):
    """DATABASES for a database of the tests."""
    if database.kind == "sqlite":
        default = {"ENGINE": "django.db.backends.sqlite3", "NAME": str(database.path)}
    else:
        server = database.server
        default = {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": database.name,
            "HOST": server.host,
            "PORT": server.port,
            "USER": "postgres",
        }
    return {"default": {**default, **more}}


def site(database, *words, **more):
    """Run a scenario, or ``manage`` with its words; return what it prints."""
    given = {"SITE_DATABASES": json.dumps(databases(database)), **more} if database else more
    code, printed = ended(words, given)
    assert code == 0, printed
    return printed


def ended(words, given):
    """Run a site to its end; return its exit code, and what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "tests.contrib.djangosite", *words],
        env=command.environment(**given),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT,
        cwd=str(command.ROOT),
    )
    return done.returncode, done.stdout


@pytest.mark.parametrize("zones", ["1", "0"], ids=["USE_TZ", "naive"])
def test_values_are_those_of_the_instance_and_load_gives_it(database, zones):
    site(database, "values_and_instances", SITE_USE_TZ=zones)


def test_models_fields_and_instances_of_every_kind_name_tables_columns_and_values(database):
    site(database, "kinds_of_models")


@pytest.mark.parametrize("zones", ["1", "0"], ids=["USE_TZ", "naive"])
def test_values_of_arrays_ranges_and_documents_are_those_of_the_instance(postgres, zones):
    site(postgres, "fields_of_postgresql", SITE_USE_TZ=zones)


def test_each_database_has_a_hub_with_listeners_of_its_own(sqlite, tmp_path):
    given = databases(sqlite)
    given["stock"] = {**given["default"], "NAME": str(tmp_path / "stock.db")}

    site(
        sqlite,
        "two_databases",
        SITE_DATABASES=json.dumps(given),
        SITE_PGEVENTS=json.dumps({"DATABASES": ["default", "stock"]}),
    )


def test_messages_context_and_capture_belong_to_the_transaction_of_django(database):
    site(database, "in_transactions")


def test_each_operation_of_a_migration_goes_through_beside_a_running_hub(database):
    site(database, "migrated_beside_a_hub")


def test_the_hub_starts_with_the_first_request_and_receives_what_it_writes(database):
    site(database, "first_request")


def test_the_tests_of_a_project_run_with_triggers_and_leave_no_connection(database, tmp_path):
    test = {"NAME": str(tmp_path / "tests.db")} if database.kind == "sqlite" else {}
    given = json.dumps(databases(database, TEST=test, CONN_MAX_AGE=None))

    words = ("manage", "test", "--noinput", "tests.contrib.shop")
    printed = site(database, *words, SITE_DATABASES=given, SITE_GROUP="1")

    assert "Ran 5 tests" in printed


def test_each_entry_of_databases_leads_to_where_it_says(tmp_path):
    postgresql = {"ENGINE": "django.db.backends.postgresql", "NAME": "shop"}
    options = {"sslmode": "require", "application_name": "it's me", "isolation_level": 2}
    given = {
        "default": {**postgresql, "USER": "me", "PASSWORD": "p@%/ ", "HOST": "db", "PORT": "5433"},
        "socket": {**postgresql, "HOST": "/run/pg"},
        "service": {**postgresql, "NAME": NO_NAME, "OPTIONS": {"service": "mine"}},
        "options": {**postgresql, "HOST": "db", "OPTIONS": options},
        "several": {**postgresql, "HOST": "a,b", "PORT": "1,2"},
        "file": {"ENGINE": "django.db.backends.sqlite3", "NAME": str(tmp_path / "a b.db")},
        "memory": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"},
    }

    lines = site(None, "addresses", SITE_DATABASES=json.dumps(given)).splitlines()

    found = dict(map(json.loads, lines))
    wanted = {"user": "me", "password": "p@%/ ", "host": "db", "port": 5433, "dbname": "shop"}
    assert wanted.items() <= found["default"].items()
    assert found["socket"]["host"] == "/run/pg" and "port" not in found["socket"]
    assert found["service"]["service"] == "mine" and "host" not in found["service"]
    wanted = {"sslmode": "require", "application_name": "it's me"}
    assert wanted.items() <= found["options"].items()
    assert "isolation_level" not in found["options"]
    assert (found["several"]["host"], found["several"]["port"]) == ("a,b", "1,2")
    assert found["file"] == str(tmp_path / "a b.db")
    assert "DATABASES['memory'][\"TEST\"]" in found["memory"]


@pytest.mark.parametrize(
    "given, sentence",
    [
        ({"EVENT_MODULE": "events"}, "PGEVENTS has no 'EVENT_MODULE': it may have BEHIND_AFTER, "),
        ({"START": "always"}, "give one of serving, never"),
        ({"DATABASES": ["no"]}, "names 'no': DATABASES has default"),
        ({"ENCODER": "no.such"}, "PGEVENTS['ENCODER']='no.such': No module named 'no'"),
    ],
    ids=lambda given: next(iter(given)) if isinstance(given, dict) else "",
)
def test_a_wrong_setting_is_named_when_django_starts(sqlite, given, sentence):
    found = {"SITE_DATABASES": json.dumps(databases(sqlite)), "SITE_PGEVENTS": json.dumps(given)}

    code, printed = ended(["manage", "check"], found)

    assert code == 1 and sentence in printed.splitlines()[-1]


def test_a_database_that_is_down_ends_no_site():
    down = {"ENGINE": "django.db.backends.postgresql", "NAME": "x", "HOST": "127.0.0.1", "PORT": 1}

    printed = site(None, "no_database", SITE_DATABASES=json.dumps({"default": down}))

    assert "Connection refused" in printed
