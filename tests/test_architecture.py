"""The front door is the map: its list is the order in which modules and folders may import.

Each folder's ``__init__`` is the map of that folder, by the same law.
"""

import ast
import inspect
import pathlib
import re
import typing

import pytest

import pgevents
from pgevents.listening.listener import Listener
from pgevents.listening.sqlalchemy_events import Changes

PACKAGE = pathlib.Path(pgevents.__file__).parent

#: What only some modules, or whole folders, may import.
RESERVED = {
    "psycopg2": ("postgres",),
    "sqlite3": ("sqlite", "cli"),
    "blinker": ("listening.registry", "signals"),
    "click": ("cli",),
    "rich": ("cli",),
    "flask": ("contrib",),
    "django": ("contrib",),
    "celery": ("contrib",),
}
THREAD_MAKERS = ("threads", "delivery.dispatcher")
CONNECTORS = ("postgres.connection", "sqlite.connection")

#: What public functions return, too, but for hubs or for SQLAlchemy alone.
NOT_FOR_APPLICATIONS = (Listener, Changes)


def the_list(folder=""):
    """The modules that the map of a folder names, in its order; without one, the front door's."""
    source = PACKAGE.joinpath(folder, "__init__.py").read_text(encoding="utf-8")
    table = ast.get_docstring(ast.parse(source)).split("stands above it")[-1]
    return re.findall(r"^    ([a-z_]+) {2,}\S", table, re.M)


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


def is_among(name, places):
    """Whether a module is one of these, or in one of these folders."""
    return any(name == place or name.startswith(place + ".") for place in places)


def violations(name, text, is_package=False):
    """Each rule of the house that a module breaks, as a sentence."""
    room, _, own = name.partition(".")
    order = the_list()
    found = []
    for imported in imports(name, text, is_package):
        first, _, rest = imported.partition(".")
        if first in RESERVED and not is_among(name, RESERVED[first]):
            found.append(f"{name} imports {first}, which is for {RESERVED[first]}")
        if first != "pgevents":
            continue
        other, _, inner = rest.partition(".")
        if not other:
            found.append(f"{name} imports the front door")
        elif other == room:
            inside = the_list(room)
            inner = inner.split(".")[0]
            place = own.split(".")[0]
            if own and not inner:
                found.append(f"{name} imports the map of its own folder")
            elif own and inside.index(inner) > inside.index(place):
                found.append(f"{name} imports {inner}, which stands below it in {room}")
            elif inner == place and "." in own:
                found += inner_violations(name, rest)
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


def inner_violations(name, other):
    """The same for two modules of one folder in a folder, whose names are both given whole."""
    folder, mine = name.rsplit(".", name.count(".") - 1)[0], name.split(".")[2]
    order, theirs = the_list(folder.replace(".", "/")), other.split(".")[2]
    if order.index(theirs) > order.index(mine):
        return [f"{name} imports {theirs}, which stands below it in {folder}"]
    return []


FOLDERS = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))
#: Those in a folder, with a map of their own; not those that a framework asks for.
INNER = sorted(path.parent for path in PACKAGE.glob("*/*/__init__.py"))
PACKAGES = {
    ".".join(path.parent.relative_to(PACKAGE).parts) for path in PACKAGE.rglob("__init__.py")
}


def test_the_front_door_names_every_module_and_folder_once():
    names = [name.split(".")[0] for name, _ in sources()]

    assert sorted(the_list()) == sorted(set(names))


@pytest.mark.parametrize("folder", FOLDERS)
def test_the_map_of_a_folder_names_every_module_in_it_once(folder):
    names = {name.split(".")[1] for name, _ in sources() if name.startswith(folder + ".")}

    assert sorted(the_list(folder)) == sorted(names)


@pytest.mark.parametrize("folder", INNER, ids=lambda path: path.name)
def test_the_map_of_a_folder_in_a_folder_names_every_module_in_it_once(folder):
    place = ".".join(folder.relative_to(PACKAGE).parts) + "."
    names = {name[len(place) :].split(".")[0] for name, _ in sources() if name.startswith(place)}

    assert sorted(the_list(folder)) == sorted(names)


def test_the_front_door_holds_no_code():
    body = ast.parse((PACKAGE / "__init__.py").read_text(encoding="utf-8")).body

    assert all(isinstance(node, (ast.Expr, ast.ImportFrom, ast.Assign)) for node in body)


def test_every_public_name_is_there():
    assert all(hasattr(pgevents, name) for name in pgevents.__all__)


def classes_in(hint):
    """Each class of ours that a type hint names."""
    if isinstance(hint, type) and hint.__module__.startswith("pgevents."):
        yield hint
    for inner in typing.get_args(hint):
        yield from classes_in(inner)


def returned(thing):
    """Each class of ours that a public function returns, or a public class's members."""
    members = [thing]
    if isinstance(thing, type):
        members = [member for name, member in vars(thing).items() if not name.startswith("_")]
    for member in members:
        fn = member.fget if isinstance(member, property) else member
        if inspect.isfunction(fn):
            yield from classes_in(typing.get_type_hints(fn).get("return"))


def test_what_public_functions_return_is_public():
    public = [getattr(pgevents, name) for name in pgevents.__all__]

    found = {kind for thing in public for kind in returned(thing)}

    assert {pgevents.Group, pgevents.DeadLetter, pgevents.Row} <= found
    assert found <= {*public, *NOT_FOR_APPLICATIONS}


def test_a_module_imports_only_what_stands_above_it():
    broken = [
        sentence
        for name, text in sources()
        for sentence in violations(name, text, name in PACKAGES)
    ]

    assert broken == []


@pytest.mark.parametrize(
    "name, text",
    [
        ("events.event", "from ..hub import Hub"),
        ("events.event", "from .. import hub"),
        ("events.event", "from ..delivery import source"),
        ("events.kinds", "from .event import Event"),
        ("events.kinds", "from . import event"),
        ("tables", "from .hub import Hub"),
        ("sqlite.log", "from ..postgres.log import LogReader"),
        ("sqlite.catalog", "from .sqlite import SQLite"),
        ("hub", "import psycopg2"),
        ("delivery.source", "from blinker import Signal"),
        ("listening.target", "from blinker import Signal"),
        ("delivery.source", "from pgevents import Hub"),
        ("delivery.delivery", "import threading\nthreading.Thread(target=print)"),
        ("hub", "def f():\n    import sqlite3"),
        ("contrib.django.config", "from .databases import hub"),
        ("hub", "import django"),
    ],
)
def test_a_violation_is_noticed(name, text):
    assert violations(name, text) != []


@pytest.mark.parametrize(
    "name, text",
    [
        ("events.event", "from ..errors import UsageError\nfrom .kinds import Kind"),
        ("listening.registry", "from blinker import Signal"),
        ("sqlite.connection", "import sqlite3"),
        ("hub", "from .sqlite.sqlite import SQLite"),
    ],
)
def test_what_the_map_allows_is_no_violation(name, text):
    assert violations(name, text) == []


def test_every_module_opens_with_a_sentence():
    missing = [name for name, text in sources() if not ast.get_docstring(ast.parse(text))]

    assert missing == []
