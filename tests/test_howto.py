"""The Python of the how-to pages and of the README runs, on SQLite, in a process for each page.

A page may use ``engine``, ``url``, ``Session``, ``Hub``, ``listens_for``, ``hub`` and the models
below without an import. What cannot run here is marked on the page: <!-- not run: reason -->.
"""

import pathlib
import re
import subprocess
import sys

import pytest

from . import command

ROOT = pathlib.Path(__file__).parent.parent
HOWTO = sorted(ROOT.glob("docs/howto/*.md"))
SNIPPET = re.compile(r"(^<!-- not run: [^\n]+ -->\n)?^```python\n(.*?)^```", re.M | re.S)
TIMEOUT = 60  # seconds in which the Python of a page has to end

MODELS = """
from sqlalchemy import Column, Integer, Numeric, String, create_engine
from sqlalchemy.orm import declarative_base

engine = create_engine("sqlite:///shop.db")
Base = declarative_base()


class Order(Base):
    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    item = Column(String)
    status = Column(String)
    total = Column(Numeric)
    card = Column(String)


class Customer(Base):
    __tablename__ = "customers"
    id = Column(Integer, primary_key=True)
    card_number = Column(String)


Base.metadata.create_all(engine)
"""

BEFORE = """
from myshop.models import Customer, Order, engine
from pgevents import Hub, Registry, listens_for
from sqlalchemy.orm import Session

url = str(engine.url)
hub = Hub(engine)
Hub(engine, Registry()).install()
"""

AFTER = """
hub.start()
with Session(engine) as session:
    session.add(Order(item="the last one", status="paid", total=1))
    session.commit()
assert hub.drain()
hub.stop()
"""

UPDATE = """
with Session(engine) as session:
    session.add(Order(id=1, status="new"))
    session.commit()
    session.get(Order, 1).status = "paid"
    session.commit()
assert hub.drain()
"""


def run_in(folder, code):
    """Run Python in a folder that has the shop; return what it prints."""
    (folder / "myshop").mkdir()
    (folder / "myshop" / "__init__.py").touch()
    (folder / "myshop" / "models.py").write_text(MODELS, encoding="utf-8")
    (folder / "page.py").write_text(code, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "page.py"],
        cwd=str(folder),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        env=command.environment(),
        timeout=TIMEOUT,
    )
    assert done.returncode == 0, f"{code}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def snippets(page):
    """The Python of a page that is not marked as one that cannot run here."""
    found = SNIPPET.findall(page.read_text(encoding="utf-8"))
    return [code for mark, code in found if not mark]


def with_snippets():
    return [page for page in HOWTO if snippets(page)]


@pytest.mark.parametrize("page", with_snippets(), ids=lambda page: page.stem)
def test_the_python_of_a_how_to_page_runs(page, tmp_path):
    run_in(tmp_path, "\n\n".join([BEFORE, *snippets(page), AFTER]))


def test_the_python_of_the_readme_receives_an_update(tmp_path):
    (code,) = snippets(ROOT / "README.md")
    code = re.sub(r"postgresql://[^\"]*", "sqlite:///shop.db", code)

    shown = run_in(tmp_path, BEFORE + code.replace("\n...", UPDATE + "\n..."))

    assert re.match(r"1 new -> paid at \d{4}-", shown)


def test_most_pages_have_python_that_runs():
    assert len(with_snippets()) >= 7
