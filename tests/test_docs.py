"""What the pages say of this repository is true of it."""

import ast
import inspect
import pathlib
import re
import shlex

import click
import pytest

import pgevents
from pgevents import Hub, signals
from pgevents.cli.command import pgevents as command
from pgevents.groups.options import NAMES as OPTIONS

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])

LONGEST = 100  # characters of a line of prose
DIALECT = r"\b(?:told|heard|hears|anew|wishes|has the say)\b"  # the field says receives, reports …
README = 120  # lines, so that one reads it in two minutes

names = pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))


def names_in(path):
    """The names of the functions that a file has."""
    if not path.is_file():
        return set()
    found = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {node.name for node in found if isinstance(node, ast.FunctionDef)}


def unknown_tests(text):
    """The tests that a page names and that there are not."""
    return [
        f"{path}::{name}"
        for path, name in re.findall(r"\b(tests/[\w/]+\.py)::(\w+)", text)
        if name not in names_in(ROOT / path)
    ]


def broken_links(page, text):
    """The files and headings that a page links to and that there are not."""
    targets = re.findall(r"\]\(([^)#:]*)(?:#([^)]*))?\)", text)
    return [
        f"{file}#{heading}" if heading else file
        for file, heading in targets
        if not (page.parent / file).exists()
        or (heading and heading not in headings_of(page.parent / file if file else page))
    ]


def headings_of(page):
    """The headings of a page, as links name them."""
    found = re.findall(r"^#+ (.*)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


def long_lines(text):
    """The lines of prose that are too long, but for those that one word fills."""
    prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
    return [
        line
        for line in prose.splitlines()
        if len(line) > LONGEST and not line.startswith(("|", "    ")) and len(line.split()) > 1
    ]


def commands_on(text):
    """The words of each call of pgevents that a page shows in a shell."""
    for block in re.findall(r"^```bash\n(.*?)^```", text, re.M | re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words[:1] == ["pgevents"]:
                yield words[1 : words.index(">") if ">" in words else None]


def in_code(page):
    """The words that a page shows as code."""
    return set(re.findall(r"[\w-]+", " ".join(re.findall(r"`([^`]*)`", page_text(page)))))


def page_text(page):
    return (ROOT / "docs" / page).read_text(encoding="utf-8")


@names
def test_a_page_names_tests_that_there_are(page):
    assert unknown_tests(page.read_text(encoding="utf-8")) == []


@names
def test_a_page_links_to_files_that_there_are(page):
    assert broken_links(page, page.read_text(encoding="utf-8")) == []


def test_what_is_not_there_is_noticed():
    assert unknown_tests("`tests/test_docs.py::test_no_such_thing`") != []
    assert unknown_tests("`tests/test_docs.py::test_what_is_not_there_is_noticed`") == []
    assert broken_links(ROOT / "README.md", "[a](docs/nothing.md)") == ["docs/nothing.md"]
    link = "[a](docs/design.md#no-such-heading)"
    assert broken_links(ROOT / "README.md", link) == ["docs/design.md#no-such-heading"]
    assert broken_links(ROOT / "README.md", "[a](docs/design.md#the-bell)") == []
    assert long_lines("some words " * 10) != []


@names
def test_the_python_on_a_page_compiles(page):
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        compile(code, "<a snippet>", "exec")


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda page: page.stem
)
def test_prose_has_short_lines(page):
    assert long_lines(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "page", [ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md"))], ids=lambda page: page.stem
)
def test_prose_has_the_words_of_the_field(page):
    prose = re.sub(r"`[^`]*`", "", page.read_text(encoding="utf-8"))

    assert re.findall(DIALECT, prose, re.I) == []


def test_the_readme_is_read_in_two_minutes():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= README


def test_the_readme_has_the_commands_that_ci_runs():
    test = 'python3 -m venv .venv && .venv/bin/pip install -q -e ".[test]" && .venv/bin/pytest'
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert f"\n    {test}\n" in readme
    assert test in (ROOT / ".ci" / "run").read_text(encoding="utf-8")


@names
def test_the_commands_on_a_page_are_understood(page):
    for name, *words in commands_on(page.read_text(encoding="utf-8")):
        assert command.commands[name].make_context(name, words)


def test_a_command_that_is_not_understood_is_noticed():
    (words,) = commands_on("```bash\npgevents tail sqlite:///a.db \\\n  --no-such  # all\n```\n")

    assert words == ["tail", "sqlite:///a.db", "--no-such"]
    with pytest.raises(click.UsageError):
        command.commands["tail"].make_context("tail", words[1:])


@pytest.mark.parametrize("name", sorted(command.commands))
def test_the_page_of_commands_has_every_command_and_option(name):
    known = in_code("commands.md") | {"--help", "-h"}

    options = [one for one in command.commands[name].params if one.opts[0].startswith("-")]

    assert {name, *(word for one in options for word in one.opts)} <= known


def test_the_api_has_every_public_name():
    page = page_text("api.md")

    assert [name for name in pgevents.__all__ if f":: pgevents.{name}\n" not in page] == []


def test_the_reference_has_every_option_key_and_signal():
    known = in_code("reference.md")
    hub = set(inspect.signature(Hub).parameters) - {"bind"}

    assert hub | set(OPTIONS) | set(Hub("sqlite:///no.db").status()) | set(signals.NAMES) <= known
