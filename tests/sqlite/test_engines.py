"""An Engine leads its hub to the file that it writes itself, whatever tells it which that is."""

import sqlite3

import pytest
import sqlalchemy
from sqlalchemy import event

from pgevents import Hub, Unsupported, UsageError


@pytest.fixture
def shop(sqlite):
    sqlite.execute("CREATE TABLE orders (id INTEGER PRIMARY KEY)")
    return sqlite


def create_by(shop):
    return {"url": "sqlite://", "creator": lambda: sqlite3.connect(str(shop.path))}


def other_file(shop):
    return {
        "url": "sqlite:///{}.other".format(shop.path),
        "creator": lambda: sqlite3.connect(str(shop.path)),
    }


def require_event_of(engine, registry, heard):
    """Write through an Engine; the hub that was given the Engine receives it."""
    registry.listen("orders", "after_insert", heard)

    with Hub(engine, registry):
        with engine.begin() as connection:
            connection.execute(sqlalchemy.text("INSERT INTO orders VALUES (1)"))
        assert heard.next().key == 1

    engine.dispose()


@pytest.mark.parametrize("options", [create_by, other_file])
def test_the_file_is_the_one_that_the_engine_opens(shop, registry, heard, options):
    options = options(shop)
    engine = sqlalchemy.create_engine(options.pop("url"), **options)

    require_event_of(engine, registry, heard)


def test_a_hook_that_changes_the_file_counts(shop, registry, heard):
    engine = sqlalchemy.create_engine("sqlite:///{}.other".format(shop.path))
    event.listen(
        engine,
        "do_connect",
        lambda dialect, record, args, given: args.__setitem__(0, str(shop.path)),
    )

    require_event_of(engine, registry, heard)


def test_a_link_is_taken_as_it_is_named(shop, registry, tmp_path):
    link = tmp_path / "link.db"
    link.symlink_to(shop.path)

    hub = Hub(sqlalchemy.create_engine("sqlite:///{}".format(link)), registry)

    assert hub._backend._path == str(link)


def test_an_engine_that_opens_a_database_in_memory_is_refused(shop, registry):
    engine = sqlalchemy.create_engine(shop.url, creator=lambda: sqlite3.connect(":memory:"))

    with pytest.raises(UsageError, match="in memory"):
        Hub(engine, registry)


def test_an_engine_whose_file_is_not_there_yet_is_taken_by_its_url(tmp_path, registry):
    hub = Hub(sqlalchemy.create_engine("sqlite:///{}/no/shop.db".format(tmp_path)), registry)

    with pytest.raises(Exception, match="no/shop.db"):
        hub.install()


def test_a_sqlite_that_is_too_old_for_the_triggers_is_refused(shop, registry, monkeypatch):
    registry.listen("orders", "after_insert", print)
    monkeypatch.setattr(sqlite3, "sqlite_version_info", (3, 29, 0))

    with pytest.raises(Unsupported, match=r"the triggers need 3\.30\.0 or newer"):
        Hub(shop.url, registry).start()
