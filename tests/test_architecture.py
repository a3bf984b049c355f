"""The front door is the map: its list of modules is the order in which they may import."""

import ast
import pathlib
import re

import pytest

import pgevents

PACKAGE = pathlib.Path(pgevents.__file__).parent

#: What only some modules may import, or call.
RESERVED = {
    "psycopg2": ("postgres",),
    "sqlite3": ("sqlite", "cli"),
    "blinker": ("registry", "signals"),
    "click": ("cli",),
    "rich": ("cli",),
    "flask": ("contrib",),
    "django": ("contrib",),
    "celery": ("contrib",),
}
THREAD_MAKERS = ("threads", "dispatcher")
CONNECTORS = ("postgres.connection", "sqlite.connection")


def the_list():
    """The modules that the front door names, in its order."""
    return re.findall(r"^    ([a-z_]+) {2,}\S", pgevents.__doc__.split("rooms do not see")[1], re.M)


def sources():
    """Each module below the front door: dotted name and text."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        name = ".".join(part for part in parts if part != "__init__")
        if name and name != "__main__":
            yield name, path.read_text(encoding="utf-8")


def imports(name, text, is_package):
    """What a module imports: dotted names; ours are relative to the front door."""
    found = []
    package = name.split(".") if is_package else name.split(".")[:-1]
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            if node.level and node.module is None:
                found += ["pgevents." + ".".join([*base, alias.name]) for alias in node.names]
            else:
                prefix = ["pgevents", *base] if node.level else []
                found.append(".".join([*prefix, node.module]))
    return found


def violations(name, text, order, is_package=False):
    """Each rule of the house that a module breaks, as a sentence."""
    room = name.split(".")[0]
    found = []
    for imported in imports(name, text, is_package):
        first, _, rest = imported.partition(".")
        if first in RESERVED and room not in RESERVED[first]:
            found.append(f"{name} imports {first}, which is for {RESERVED[first]}")
        if first != "pgevents":
            continue
        other = rest.split(".")[0]
        if not other:
            found.append(f"{name} imports the front door")
        elif other == room:
            continue
        elif {room, other} == {"postgres", "sqlite"}:
            found.append(f"{name} looks into the other room: {other}")
        elif order.index(other) > order.index(room):
            found.append(f"{name} imports {other}, which stands below it")
    calls = {
        f"{node.func.value.id}.{node.func.attr}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
    }
    if "threading.Thread" in calls and name not in THREAD_MAKERS:
        found.append(f"{name} makes a thread")
    for connect in ("psycopg2.connect", "sqlite3.connect"):
        if connect in calls and name not in CONNECTORS and room != "cli":
            found.append(f"{name} opens a connection")
    return found


def test_the_front_door_names_every_module_once():
    names = [name.split(".")[0] for name, _ in sources()]

    assert sorted(the_list()) == sorted(set(names))


def test_the_front_door_holds_no_code():
    body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body

    assert all(isinstance(node, (ast.Expr, ast.ImportFrom, ast.Assign)) for node in body)


def test_every_public_name_is_there():
    assert all(hasattr(pgevents, name) for name in pgevents.__all__)


def test_a_module_imports_only_what_stands_above_it():
    order = the_list()
    packages = {path.parent.name for path in PACKAGE.rglob("__init__.py")}

    broken = [
        sentence
        for name, text in sources()
        for sentence in violations(name, text, order, name in packages)
    ]

    assert broken == []


@pytest.mark.parametrize(
    "name, text",
    [
        ("event", "from .hub import Hub"),
        ("event", "from . import hub"),
        ("sqlite.log", "from ..postgres.log import LogReader"),
        ("hub", "import psycopg2"),
        ("source", "from blinker import Signal"),
        ("source", "from pgevents import Hub"),
        ("delivery", "import threading\nthreading.Thread(target=print)"),
        ("hub", "def f():\n    import sqlite3"),
    ],
)
def test_a_violation_is_noticed(name, text):
    assert violations(name, text, the_list()) != []


def test_every_module_opens_with_a_sentence():
    missing = [name for name, text in sources() if not ast.get_docstring(ast.parse(text))]

    assert missing == []
