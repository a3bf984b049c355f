"""The Django app, in sites of Django's own, each in a process of its own, on both databases."""

import json
import subprocess
import sys

import pytest

from tests import command

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
    found = command.environment(SITE_DATABASES=json.dumps(databases(database)), **more)
    done = subprocess.run(
        [sys.executable, "-W", "error::ResourceWarning", "-m", "tests.contrib.djangosite", *words],
        env=found,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=TIMEOUT,
        cwd=str(command.ROOT),
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


@pytest.mark.parametrize("zones", ["1", "0"], ids=["USE_TZ", "naive"])
def test_values_are_those_of_the_instance_and_load_gives_it(database, zones):
    site(database, "values_and_instances", SITE_USE_TZ=zones)


def test_models_fields_and_instances_of_every_kind_name_tables_columns_and_values(database):
    site(database, "kinds_of_models")


def test_messages_context_and_capture_belong_to_the_transaction_of_django(database):
    site(database, "in_transactions")


def test_each_operation_of_a_migration_goes_through_beside_a_running_hub(database):
    site(database, "migrated_beside_a_hub")


def test_the_hub_starts_with_the_first_request_and_receives_what_it_writes(database):
    site(database, "first_request")
