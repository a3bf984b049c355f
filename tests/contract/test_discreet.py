"""What stands in the log of a program holds neither rows nor passwords."""

import traceback

import pytest
import sqlalchemy
from sqlalchemy.engine import make_url

from pgevents import Hub, UsageError

from ..waiting import wait_for

SECRET = "bob@example.com"


@pytest.fixture
def accounts(orders):
    """Orders, and a table in which an address can stand once."""
    orders.execute("CREATE TABLE accounts (email varchar(99) UNIQUE)")
    orders.execute("INSERT INTO accounts VALUES ('{}')".format(SECRET))
    return orders


@pytest.mark.parametrize("group", [None, "mail"])
def test_a_listeners_database_error_is_logged_without_the_row(accounts, registry, caplog, group):
    engine = accounts.engine()
    insert = sqlalchemy.text("INSERT INTO accounts VALUES (:email)")

    @registry.listens_for("orders", "after_insert", group=group)
    def register(event):
        try:
            with engine.begin() as connection:
                connection.execute(insert, {"email": SECRET})
        except sqlalchemy.exc.IntegrityError as error:
            raise RuntimeError("not registered: {}".format(error.orig)) from error

    hub = Hub(accounts.url, registry)
    if group:
        hub.group(group, max_attempts=2, backoff=(0.01, 0.01))
    with hub:
        accounts.execute("INSERT INTO orders (item) VALUES ('tea')")
        wait_for(lambda: "RuntimeError" in caplog.text and "IntegrityError" in caplog.text)
        if group:
            wait_for(lambda: hub.group(group).dead_letters())
            assert SECRET in hub.group(group).dead_letters()[0].traceback

    assert SECRET not in caplog.text
    assert "UNIQUE" in caplog.text.upper()
    assert "in register" in caplog.text  # the line where it happened


def test_an_error_without_a_row_is_logged_as_it_is(orders, registry, caplog):
    error = ValueError("as it is")

    @registry.listens_for("orders", "after_insert")
    def fail(event):
        raise error

    with Hub(orders.url, registry) as hub:
        orders.execute("INSERT INTO orders (item) VALUES ('tea')")
        assert hub.drain()

    assert error in [record.exc_info[1] for record in caplog.records if record.exc_info]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:hun%00ter@host/shop",
        "postgresql://me:hunter@host:port/shop",
        "me:hunter@host",
    ],
)
def test_a_url_that_is_none_is_not_repeated_whatever_is_printed_of_the_error(registry, url):
    with pytest.raises(UsageError, match="no database URL") as caught:
        Hub(url, registry)

    # SQLAlchemy 1.4 repeats the text in its own error.
    assert caught.value.__context__ is None and caught.value.__cause__ is None
    printed = traceback.format_exception_only(type(caught.value), caught.value)
    assert "hun" not in "".join(printed)


def test_a_nul_in_a_password_is_a_clear_error_wherever_it_comes_from(postgres, registry):
    hub = Hub(make_url(postgres.url).set(password="hun\0ter"), registry)

    with pytest.raises(UsageError, match="%00") as caught:
        hub.start()

    assert "hun" not in str(caught.value)
    assert caught.value.__context__ is None


def test_what_the_server_says_of_a_row_is_in_no_error_of_ours(postgres, registry):
    postgres.execute("CREATE TABLE orders (id int PRIMARY KEY)")
    hub = Hub(postgres.url, registry)

    with pytest.raises(Exception, match="duplicate key") as caught:
        with hub._backend.connection() as connection:
            connection.cursor().execute(
                "INSERT INTO public.orders VALUES (4711); INSERT INTO public.orders VALUES (4711)"
            )

    assert "4711" not in str(caught.value)
