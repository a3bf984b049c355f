"""What a write costs, counted in instructions: the same number on a busy machine.

A server in single-user mode runs under callgrind twice, with few and with many of the
same statement. The difference is what the statements cost, without what a start does.
"""

import re
import shutil
import subprocess
from typing import Any, Dict, List, Optional, Tuple

from pgevents import Hub, Registry
from tests.servers import Server

from .handwritten import TRIGGER
from .report import Report
from .server import SETTINGS, Database

FEW, MANY = 100, 400  # statements; the difference is what is measured
TIMEOUT = 600  # seconds for one run under callgrind, on a machine that does other things too

EMPTY = """
CREATE FUNCTION nothing() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RETURN NULL; END$$;
CREATE TRIGGER nothing_insert AFTER INSERT ON orders
    REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION nothing();
CREATE TRIGGER nothing_update AFTER UPDATE ON orders
    REFERENCING OLD TABLE AS old_rows NEW TABLE AS new_rows
    FOR EACH STATEMENT EXECUTE FUNCTION nothing();
CREATE TRIGGER nothing_delete AFTER DELETE ON orders
    REFERENCING OLD TABLE AS old_rows FOR EACH STATEMENT EXECUTE FUNCTION nothing();
"""
STATEMENTS = {
    "INSERT": "INSERT INTO orders (item, price) VALUES ('book {n}', 9.90)",
    "UPDATE": "UPDATE orders SET status = 'paid {n}' WHERE id = {n}",
    "DELETE": "DELETE FROM orders WHERE id = {n}",
}
TARGETS = {"INSERT": 95_000, "UPDATE": 150_000}  # over no trigger

#: What else a captured table may have that costs; the figure is of one INSERT.
COLUMNS = {
    "with an enum of the installer's": (
        "CREATE TYPE mood AS ENUM ('sad', 'ok'); ALTER TABLE orders ADD mood mood DEFAULT 'ok'"
    ),
    "with a composite type": (
        "CREATE TYPE pair AS (a int, b text); ALTER TABLE orders ADD pair pair DEFAULT '(1,b)'"
    ),
    "with jsonb": "ALTER TABLE orders ADD more jsonb DEFAULT '{\"a\": 1}'",
    "with a float": "ALTER TABLE orders ADD weight float8 DEFAULT 0.5",
}


def measure(server: Any, report: Report) -> None:
    """Count what a row costs without a trigger, with a hand-written one, and with ours."""
    missing = _missing(server)
    if missing is not None:
        report.say("instructions: skipped, since {}.".format(missing))
        return
    with Server(server.installation, **SETTINGS) as own:
        databases = _databases(own)
        columns = {} if report.quick else _with_columns(own)
        own.stop()
        counted = {
            (name, kind): _count(own, database, STATEMENTS[kind])
            for name, database in databases.items()
            for kind in STATEMENTS
            if name != "hand-written" or kind == "INSERT"
        }
        plain = {name: _count(own, pair[0], STATEMENTS["INSERT"]) for name, pair in columns.items()}
        ours = {name: _count(own, pair[1], STATEMENTS["INSERT"]) for name, pair in columns.items()}
    _say(report, counted, {name: (plain[name], ours[name]) for name in columns})


def _databases(server: Any) -> Dict[str, Database]:
    """Make a database for each variant, with rows to update and to delete."""
    found = {name: Database(server) for name in ("no trigger", "empty", "hand-written", "pgevents")}
    for name, database in found.items():
        database.execute(
            "INSERT INTO orders (item, price) SELECT 'book', 1 FROM generate_series(1, 1000)"
        )
        if name == "empty":
            database.execute(EMPTY)
        elif name == "hand-written":
            database.execute(TRIGGER)
        elif name == "pgevents":
            _watch(database)
        database.execute("VACUUM ANALYZE")
    return found


def _with_columns(server: Any) -> Dict[str, Tuple[Database, Database]]:
    """Make two databases, without and with triggers, for each kind of column."""
    found = {}
    for name, sql in COLUMNS.items():
        pair = Database(server), Database(server)
        for database in pair:
            database.execute(sql)
        _watch(pair[1])
        found[name] = pair
    return found


def _watch(database: Database) -> None:
    hub = Hub(database.url, Registry())
    hub.watch("orders")
    hub.install()


def _count(server: Any, database: Database, statement: str) -> float:
    """Return how many instructions one such statement takes, in a transaction of its own."""
    few, many = (
        _run(server, database.name, [statement.format(n=n) for n in range(start, start + number)])
        # Other rows each time: a deleted one cannot be deleted again.
        for start, number in ((1, FEW), (1 + FEW, MANY))
    )
    return (many - few) / (MANY - FEW)


def _run(server: Any, name: str, statements: List[str]) -> int:
    """Run statements in single-user mode, and return how many instructions that took."""
    program = str(server.installation.bin / "postgres")
    command = server.installation.command("postgres", "--single", "-D", server.data, name)
    at = command.index(program)
    valgrind = [_valgrind() or "", "--tool=callgrind", "--callgrind-out-file=/dev/null"]
    done = subprocess.run(
        command[:at] + valgrind + command[at:],
        env=server.installation.environment(),
        cwd="/",
        input="\n".join([*statements, ""]),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        universal_newlines=True,
        timeout=TIMEOUT,
    )
    found = re.search(r"Collected\s*:\s*(\d+)", done.stdout)
    wrong = re.search(r"(ERROR|FATAL):.*", done.stdout)
    if done.returncode or found is None or wrong is not None:
        raise RuntimeError("callgrind: {}".format(wrong.group() if wrong else done.stdout[-1000:]))
    return int(found.group(1))


def _missing(server: Any) -> Optional[str]:
    """Say what is missing to count."""
    valgrind = _valgrind()
    if valgrind is None:
        return "valgrind is not installed"
    done = subprocess.run([valgrind, "--version"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    return None if done.returncode == 0 else "valgrind does not run"


def _valgrind() -> Optional[str]:
    return shutil.which("valgrind")


def _say(
    report: Report,
    counted: Dict[Tuple[str, str], float],
    columns: Dict[str, Tuple[float, float]],
) -> None:
    rows = []
    for (name, kind), count in counted.items():
        over = count - counted["no trigger", kind]
        rows.append((kind, name, "{:,.0f}".format(count), "{:,.0f}".format(over)))
        if name == "pgevents" and kind in TARGETS:
            wanted = TARGETS[kind]
            report.target(
                "instructions of one {}".format(kind),
                "≤ {:,} over no trigger".format(wanted),
                "{:,.0f}".format(over),
                over <= wanted,
            )
    report.table(
        "Instructions: a statement that writes one row, and commits",
        ("", "", "instructions", "over no trigger"),
        sorted(rows, key=lambda row: list(STATEMENTS).index(row[0])),
    )
    if columns:
        report.table(
            "Instructions of an INSERT, by what the table has",
            ("", "no trigger", "pgevents", "over no trigger"),
            [
                (name, *("{:,.0f}".format(n) for n in (plain, ours, ours - plain)))
                for name, (plain, ours) in columns.items()
            ],
        )
