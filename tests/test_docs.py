"""What the pages say of this repository is true of it."""

import ast
import pathlib
import re

import pytest

ROOT = pathlib.Path(__file__).parent.parent
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("benchmarks/*.md")])

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
    """The files that a page links to and that there are not."""
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text)
    return [target for target in targets if not (page.parent / target).exists()]


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


@names
def test_the_python_on_a_page_compiles(page):
    for code in re.findall(r"^```python\n(.*?)^```", page.read_text(encoding="utf-8"), re.M | re.S):
        compile(code, "<a snippet>", "exec")
