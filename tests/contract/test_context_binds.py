"""On every database, what is said around writes is said where the hub's tables are, or refused."""

import pytest
from sqlalchemy import Column, Integer, String, create_engine, text
from sqlalchemy.orm import Session, declarative_base, scoped_session, sessionmaker

from pgevents import Hub, Registry, UsageError

from ..database import Postgres, Sqlite

Base = declarative_base()


class Order(Base):
    __tablename__ = "orders"
    id = Column(Integer, primary_key=True)
    item = Column(String)


class Note(Base):
    """Of the other database."""

    __tablename__ = "notes"
    id = Column(Integer, primary_key=True)


@pytest.fixture
def other(database, tmp_path):
    """Another database of the same kind, with the same tables."""
    other = (
        Postgres(database.server)
        if database.kind == "postgresql"
        else Sqlite(tmp_path / "other.db")
    )
    Base.metadata.create_all(other.engine())
    yield other
    other.close()


@pytest.fixture
def hub(database, registry, heard):
    Base.metadata.create_all(database.engine())
    registry.listen(Order, "after_insert", heard)
    with Hub(database.url, registry) as hub:
        yield hub


class Routing(Session):
    """As Flask-SQLAlchemy's, or one of somebody's own: each class has its engine."""

    engines = None

    def get_bind(self, mapper=None, clause=None, bind=None, **more):
        named = mapper.local_table.name if mapper is not None else getattr(clause, "name", "notes")
        return bind or self.engines.get(named, self.engines["notes"])


def sessions(ours, theirs):
    """Sessions that write orders into our database, by name."""

    class Routed(Routing):
        engines = {"orders": ours, "notes": theirs}

    yield "binds", Session(binds={Order: ours, Note: theirs})
    yield "default elsewhere", Session(theirs, binds={Order: ours})
    yield "default here", Session(ours, binds={Note: theirs})
    yield "by table", Session(theirs, binds={Order.__table__: ours})
    yield "get_bind", Routed()
    yield "scoped", scoped_session(sessionmaker(binds={Order: ours, Note: theirs}))
    yield "other options", Session(
        ours, binds={Note: ours.execution_options(isolation_level="AUTOCOMMIT")}
    )


def test_a_session_with_binds_says_it_where_the_hubs_tables_are(database, other, hub, heard):
    for name, session in sessions(database.engine(), other.engine()):
        with hub.context(session, by=name):
            session.add(Order(item=name))
            session.flush()
        with hub.suppressed(session):
            session.add(Order(item="unheard"))
            session.flush()
        session.commit()
        session.close()

        event = heard.next()
        assert (event.new["item"], event.context) == (name, {"by": name})
    assert hub.drain() and heard.rest() == []
    assert other.execute("SELECT count(*) FROM orders") == [(0,)]


def test_where_nobody_listens_by_class_the_sessions_own_binds_are_asked(database, other):
    Base.metadata.create_all(database.engine())
    hub = Hub(database.url, Registry())
    hub.watch("orders")
    hub.install()
    session = Session(binds={Order: database.engine(), Note: other.engine()})

    with hub.context(session, by="me"):
        session.add(Order(item="tea"))
        session.commit()
    session.close()

    log = "pgevents_log" if database.kind == "sqlite" else "pgevents.log"
    assert database.execute(f"SELECT context FROM {log}") == [('{"by": "me"}',)]


def test_what_writes_elsewhere_is_refused_with_both_a_reason_and_a_way(database, other, hub):
    memory = create_engine("sqlite://")
    for writer in (
        Session(other.engine()),
        Session(binds={Note: other.engine()}),
        Session(),
        Session(memory),
        other.engine().connect(),
    ):
        with writer, pytest.raises(UsageError, match="which is not this hub's: give the"):
            with hub.suppressed(writer):
                pass
    memory.dispose()


def test_two_ways_to_the_hubs_database_are_refused(database, hub):
    session = Session(database.engine(), binds={Note: database.engine()})

    with session, pytest.raises(UsageError, match=r"several ways to .*bind_arguments="):
        with hub.context(session, by="me"):
            pass


def test_the_way_that_the_error_names_works(database, hub, heard):
    session = Session(database.engine(), binds={Order: database.engine()})

    with session, hub.context(session.connection(bind_arguments={"mapper": Order}), by="me"):
        session.add(Order(item="tea"))
        session.commit()

    assert heard.next().context == {"by": "me"}


def test_a_writer_may_go_another_way_than_the_hub(postgres, proxy, registry, heard):
    Base.metadata.create_all(postgres.engine())
    registry.listen("orders", "after_insert", heard)
    engine = create_engine(postgres.through(proxy))

    with Hub(postgres.url, registry) as hub, Session(engine) as session:
        with hub.context(session, by="me"):
            session.execute(text("INSERT INTO orders (item) VALUES ('tea')"))
        session.commit()
        assert heard.next().context == {"by": "me"}
    engine.dispose()


def test_a_writer_does_not_wait_for_a_hub_that_cannot_connect(postgres, proxy, registry):
    hub = Hub(postgres.through(proxy), registry)
    proxy.refuse()

    with Session(postgres.engine()) as session, hub.context(session, by="me"):
        found = session.execute(text("SELECT current_setting('pgevents.context')")).scalar()

    assert found == '{"by": "me"}'


def test_a_file_may_have_two_names(sqlite, registry, heard, tmp_path):
    Base.metadata.create_all(sqlite.engine())
    (tmp_path / "link.db").symlink_to(sqlite.path)
    registry.listen("orders", "after_insert", heard)
    engine = create_engine(f"sqlite:///{tmp_path}/link.db")

    with Hub(sqlite.url, registry) as hub, Session(engine) as session:
        with hub.context(session, by="me"):
            session.add(Order(item="tea"))
            session.commit()
        assert heard.next().context == {"by": "me"}
    engine.dispose()


def test_what_is_altered_through_such_a_session_is_the_hubs(sqlite, registry, heard, tmp_path):
    Base.metadata.create_all(sqlite.engine())
    registry.listen(Order, "after_insert", heard)
    elsewhere = create_engine(f"sqlite:///{tmp_path}/elsewhere.db")

    with Hub(sqlite.url, registry) as hub:
        with Session(elsewhere, binds={Order: sqlite.engine()}) as session:
            with hub.altering(session, "orders"):
                session.execute(
                    text("ALTER TABLE orders DROP COLUMN item"), bind_arguments={"mapper": Order}
                )
            session.commit()
        with Session(elsewhere) as session, pytest.raises(UsageError, match="not this hub's"):
            with hub.altering(session, "orders"):
                pass
        sqlite.execute("INSERT INTO orders DEFAULT VALUES")
        assert heard.next().new == {"id": 1}
    elsewhere.dispose()
