"""Each example runs alone and prints what it says at its end."""

import pathlib
import subprocess
import sys

import pytest

from . import command

EXAMPLES = pathlib.Path(__file__).parent.parent / "examples"


def test_every_example_is_run():
    assert sorted(path.name for path in EXAMPLES.glob("*.py")) == [
        "durable.py",
        "quickstart_postgresql.py",
        "quickstart_sqlite.py",
    ]


def test_the_quickstart_on_sqlite():
    run("quickstart_sqlite.py")


def test_the_durable_group():
    run("durable.py")


@pytest.mark.parametrize("driver", ["postgresql", "postgresql+psycopg2"])
def test_the_quickstart_on_postgresql(postgres, driver):
    url = postgres.server.url(postgres.name, driver=driver)

    run("quickstart_postgresql.py", DATABASE_URL=url)

    left = postgres.execute(
        "SELECT nspname FROM pg_namespace WHERE nspname = 'pgevents'"
        " UNION SELECT relname FROM pg_class WHERE relname LIKE '%quickstart%'"
    )
    assert left == []


def test_the_quickstart_on_postgresql_asks_for_a_database(monkeypatch):
    monkeypatch.delenv("DATABASE_URL", raising=False)

    process = start("quickstart_postgresql.py")

    assert process.stderr.startswith("which database? DATABASE_URL=postgresql://")
    assert process.returncode == 1


def run(name, **environment):
    """Run an example; compare what it prints with the block at its end."""
    _, _, block = (EXAMPLES / name).read_text(encoding="utf-8").partition("\n# Output:\n")
    expected = [line[2:] for line in block.splitlines()]
    assert expected

    process = start(name, **environment)

    assert process.stderr == ""
    assert process.stdout.splitlines() == expected
    assert process.returncode == 0


def start(name, **environment):
    """Run an example to its end, whatever that is."""
    return subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / name)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=command.environment(**environment),
        timeout=command.TIMEOUT,
    )
