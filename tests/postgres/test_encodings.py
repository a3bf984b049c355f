"""Databases that are not in UTF-8: text arrives as it is; bytes that are no text stop nobody."""

import json

import pytest
import sqlalchemy

from pgevents import ANY, Event, Hub, Registry, UsageError
from pgevents.postgres.encoding import _CODECS, Encoding

from ..command import finish
from ..database import Postgres
from ..orders import items
from ..test_cli import tailing
from ..waiting import wait_for

#: What each can hold; and for EUC_JP also what Python's own codec reads otherwise.
LETTERS = {"SQL_ASCII": "é€ж", "LATIN1": "éß", "WIN1252": "é€", "EUC_JP": "日～①髙"}
#: Bytes that the database takes though they are no character there. In LATIN1 all are.
GARBAGE = {"SQL_ASCII": b"\x81\xe9", "WIN1252": b"\x81", "EUC_JP": b"\xa9\xa1"}

each_way = pytest.mark.parametrize("group", [None, "g"], ids=["plain", "group"])
with_garbage = pytest.mark.parametrize("foreign", GARBAGE, indirect=True)


class Foreign(Postgres):
    """A database in another encoding; statements are text in UTF-8, or bytes as they are stored."""

    def __init__(self, server, encoding):
        super().__init__(server, encoding)
        self.letters = LETTERS[encoding]
        self.garbage = GARBAGE.get(encoding, b"")
        self.as_read = self.garbage.decode("ascii", "surrogateescape")

    def execute(self, sql, *params, client_encoding="UTF8"):
        connection = self.server.connect(self.name, client_encoding=client_encoding)
        try:
            connection.autocommit = True
            cursor = connection.cursor()
            if isinstance(sql, bytes):
                cursor.execute("SET client_encoding = 'SQL_ASCII'")
            cursor.execute(sql, params or None)
            return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def insert_garbage(self):
        self.execute(b"INSERT INTO orders (item) VALUES ('a%sb')" % self.garbage)


@pytest.fixture(params=LETTERS)
def foreign(request, server):
    """A database in each encoding, with a table of orders."""
    database = Foreign(server, request.param)
    database.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    yield database
    database.close()


@each_way
def test_letters_arrive_as_they_were_written(foreign, registry, heard, group):
    registry.listen("orders", "after_change", heard, group=group)

    with Hub(foreign.url, registry):
        foreign.execute("INSERT INTO orders (item) VALUES (%s)", foreign.letters)
        foreign.execute("UPDATE orders SET item = item || '!'")
        inserted, updated = heard.take(2)

    assert inserted.new["item"] == updated.old["item"] == foreign.letters
    assert updated.new["item"] == foreign.letters + "!"


@pytest.mark.parametrize("foreign", ["LATIN1", "WIN1252"], indirect=True)
@pytest.mark.parametrize("client_encoding", ["UTF8", "LATIN1", "WIN1252"])
def test_a_writers_encoding_does_not_matter(foreign, registry, heard, client_encoding):
    if {client_encoding, foreign.execute("SHOW server_encoding")[0][0]} == {"LATIN1", "WIN1252"}:
        pytest.skip("the server does not convert between these two")
    registry.listen("orders", "after_insert", heard)

    with Hub(foreign.url, registry):
        foreign.execute(
            "INSERT INTO orders (item) VALUES (%s)", "é", client_encoding=client_encoding
        )

        assert heard.next().new["item"] == "é"


@with_garbage
@each_way
def test_bytes_that_are_no_text_arrive_as_surrogates_and_stop_nobody(
    foreign, registry, heard, group
):
    registry.listen("orders", "after_insert", heard, group=group)

    with Hub(foreign.url, registry) as hub:
        foreign.insert_garbage()
        foreign.execute("INSERT INTO orders (item) VALUES (%s)", foreign.letters)
        events = heard.take(2)
        assert hub.drain(10)

    assert items(events) == ["a" + foreign.as_read + "b", foreign.letters]
    again = Event.from_json(events[0].to_json())
    assert again.new == events[0].new


@with_garbage
def test_a_listener_is_reconnected_and_goes_on_behind_bytes_that_are_no_text(
    foreign, registry, heard
):
    registry.listen("orders", "after_insert", heard)

    with Hub(foreign.url, registry):
        foreign.insert_garbage()
        heard.next()
        foreign.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        foreign.insert_garbage()
        foreign.execute("INSERT INTO orders (item) VALUES ('ok')")

        assert items(heard.take(2)) == ["a" + foreign.as_read + "b", "ok"]


@with_garbage
def test_a_backlog_that_is_read_in_pages_may_hold_them_anywhere(foreign, registry, heard):
    registry.listen("orders", "after_insert", heard)
    registry.listen("orders", "after_insert", lambda event: None, group="g")

    with Hub(foreign.url, registry) as hub:
        foreign.execute(
            b"INSERT INTO orders (item) SELECT i || '%s' FROM generate_series(1, 1200) i"
            % foreign.garbage
        )
        events = heard.take(1200)
        assert hub.drain(30)

    assert items(events) == ["{}{}".format(i, foreign.as_read) for i in range(1, 1201)]


@with_garbage
def test_a_backfill_reads_them_too(foreign, registry, heard):
    foreign.insert_garbage()
    foreign.execute("INSERT INTO orders (item) VALUES (%s)", foreign.letters)
    registry.listen("orders", "after_insert", heard, group="g")
    hub = Hub(foreign.url, registry)
    group = hub.group("g", start="backfill")

    with hub:
        events = heard.take(2)
        assert hub.drain(10)

        assert items(events) == ["a" + foreign.as_read + "b", foreign.letters]
        assert group.lag() == (0, 0)


@with_garbage
def test_they_may_become_a_dead_letter_and_be_tried_again(foreign, registry, heard):
    broken = [True]

    def listener(event):
        if broken[0]:
            raise ValueError(event.new["item"] + foreign.letters)
        heard(event)

    registry.listen("orders", "after_insert", listener, group="g")
    hub = Hub(foreign.url, registry)
    group = hub.group("g", max_attempts=2, backoff=(0.01, 0.01))

    with hub:
        foreign.insert_garbage()
        assert hub.drain(10)
        (letter,) = group.dead_letters()
        assert letter.event.new["item"] == "a" + foreign.as_read + "b"
        assert "ValueError" in letter.error and "ValueError" in letter.traceback
        broken[0] = False
        assert group.retry_dead() == 1

        assert heard.next().new["item"] == "a" + foreign.as_read + "b"


@pytest.mark.parametrize(
    "group, spec", [(None, {}), ("g", {"include": True})], ids=["plain-all", "group-included"]
)
def test_tables_and_columns_may_have_any_letters(foreign, registry, heard, group, spec):
    table, column = "t" + foreign.letters, "c" + foreign.letters
    foreign.execute(
        'CREATE TABLE "{}" (id int PRIMARY KEY, "{}" text, other text)'.format(table, column)
    )
    foreign.execute('INSERT INTO "{}" VALUES (1, %s)'.format(table), foreign.letters)
    registry.listen(table, "after_change", heard, group=group)
    hub = Hub(foreign.url, registry, retention=1)
    if spec:
        hub.watch(table, include=[column])
    if group:
        hub.group(group, start="backfill")
        registry.listen("orders", "after_insert", lambda event: None, group="h")

    with hub:
        foreign.execute('UPDATE "{}" SET "{}" = \'x\''.format(table, column))
        events = heard.take(2 if group else 1)
        assert hub.drain(10)
        # Housekeeping knows the group's topics, too.
        wait_for(lambda: not foreign.execute("SELECT 1 FROM pgevents.log"))
        assert hub.installed()[0]["state"] == "ok"

    assert events[-1].table == table
    assert events[-1].key == 1
    assert events[-1].changed == (column,)
    assert events[0].new[column] == (foreign.letters if group else "x")


@pytest.mark.parametrize("foreign", ["SQL_ASCII"], indirect=True)
@each_way
def test_a_columns_name_may_be_no_text_itself(foreign, registry, heard, group):
    foreign.execute(b'CREATE TABLE odd (id int PRIMARY KEY, "caf\xe9" text, other text)')
    registry.listen("odd", "after_change", heard, group=group)
    hub = Hub(foreign.url, registry)
    hub.watch("odd", exclude=["other"], old=False)

    with hub:
        foreign.execute(b"INSERT INTO odd VALUES (1, 'tea', 'x')")

        assert heard.next().new == {"id": 1, "caf\udce9": "tea"}


@pytest.mark.parametrize("foreign", ["SQL_ASCII"], indirect=True)
def test_a_table_whose_name_is_no_text_disturbs_nobody(foreign, registry, heard):
    foreign.execute(b'CREATE TABLE "caf\xe9" (id int PRIMARY KEY)')
    registry.listen(ANY, "after_insert", heard)
    registry.listen("orders", "after_insert", lambda event: None)

    with Hub(foreign.url, registry):
        foreign.execute(
            b'CREATE TRIGGER x AFTER INSERT ON "caf\xe9" REFERENCING NEW TABLE AS new_rows'
            b" FOR EACH STATEMENT EXECUTE FUNCTION pgevents.capture_insert()"
        )
        foreign.execute(b'INSERT INTO "caf\xe9" VALUES (1)')
        foreign.execute("INSERT INTO orders (item) VALUES ('ok')")

        assert [event.table for event in heard.take(2)] == ["caf\udce9", "orders"]
        assert heard.events[0].key == 1

    registry.listen("cafe", "after_insert", heard)
    with pytest.raises(UsageError, match="there are caf\udce9"):
        Hub(foreign.url, registry).start()


def test_a_transactional_listener_reads_and_writes_text_as_on_any_connection(
    foreign, registry, heard
):
    letters, letter = foreign.letters, foreign.letters[0]
    foreign.execute("CREATE TYPE kind AS ENUM ('{}')".format(letter))
    foreign.execute("CREATE TABLE more (a varchar(9), b text[], c kind, d json, e bytea, f int)")
    found = []

    def listener(event, connection):
        connection.execute(
            sqlalchemy.text("INSERT INTO more VALUES (:a, :b, :c, :d, '\\x00ff', :f)"),
            [
                {
                    "a": event.new["item"],
                    "b": [letters, None],
                    "c": letter,
                    "f": number,
                    "d": json.dumps({"x": letter}, ensure_ascii=False),
                }
                for number in (1, 2)
            ],
        )
        rows = connection.execute(
            sqlalchemy.text("SELECT * FROM more WHERE a = :a ORDER BY f"), {"a": letters}
        )
        found.extend([*row[:4], bytes(row[4]), row[5]] for row in rows)

    registry.listen("orders", "after_insert", listener, group="g", transactional=True)

    with Hub(foreign.url, registry) as hub:
        foreign.execute("INSERT INTO orders (item) VALUES (%s)", letters)
        assert hub.drain(10)

    assert found == [
        [letters, [letters, None], letter, {"x": letter}, b"\x00\xff", number] for number in (1, 2)
    ]
    assert foreign.execute("SELECT DISTINCT a FROM more") == [(letters,)]


@each_way
def test_the_encoding_that_an_application_uses_does_not_limit_ours(
    postgres, registry, heard, group
):
    postgres.execute("CREATE TABLE orders (id serial PRIMARY KEY, item text)")
    registry.listen("orders", "after_insert", heard, group=group)

    with Hub(postgres.url + "?client_encoding=latin1", registry):
        connection = postgres.connect()
        connection.set_client_encoding("UTF8")
        connection.cursor().execute("INSERT INTO orders (item) VALUES ('€')")
        connection.commit()

        assert heard.next().new["item"] == "€"


def test_each_encoding_is_read_and_written_as_the_server_does(postgres):
    # All characters of one, two and three bytes that the server knows.
    postgres.execute("""
        CREATE FUNCTION known(given bytea, encoding name) RETURNS text LANGUAGE plpgsql AS $$
        BEGIN RETURN convert_from(given, encoding);
        EXCEPTION WHEN OTHERS THEN RETURN NULL; END $$""")
    connection = postgres.connect()
    connection.set_client_encoding("UTF8")
    cursor = connection.cursor()
    ascii_, high = range(1, 128), range(128, 256)
    single = [bytes([i]) for i in [*ascii_, *high]]
    euc = [bytes([i]) for i in ascii_]
    euc += [bytes([i, j]) for i in range(0xA1, 255) for j in range(0xA1, 255)]
    euc += [bytes([0x8E, i]) for i in range(0xA1, 255)]
    euc += [bytes([0x8F, i, j]) for i in range(0xA1, 255) for j in range(0xA1, 255)]

    for name in set(_CODECS) - {"SQL_ASCII"}:
        encoding = Encoding(name)
        given = euc if name.startswith("EUC") else single
        cursor.execute(
            "SELECT known(given, %s) FROM unnest(%s) WITH ORDINALITY u (given, place)"
            " ORDER BY place",
            (name, given),
        )
        for data, (text,) in zip(given, cursor.fetchall()):
            read = encoding.decode(data)
            assert text is None or read == text, (name, data)
            if text is not None:
                assert encoding.decode(encoding.encode(text)) == text, (name, data)


@pytest.mark.parametrize("name", _CODECS)
def test_any_bytes_are_read_and_what_follows_them_is_not_disturbed(name):
    encoding = Encoding(name)
    unknown = GARBAGE.get(name, b"\xfd\xfe")

    text = encoding.decode(b"a" + unknown + encoding.encode("b"))

    assert text.startswith("a") and text.endswith("b")
    assert encoding.encode(text) == b"a" + unknown + b"b"


def test_a_character_that_python_lacks_does_not_shift_the_next_one():
    assert Encoding("EUC_JP").decode(b"\xa9\xa1\xa4\xa2") == "\udca9\udca1あ"


def test_a_character_that_the_database_lacks_is_an_error(foreign):
    if foreign.letters == LETTERS["SQL_ASCII"]:
        pytest.skip("it takes any bytes")
    encoding = Encoding(foreign.execute("SHOW server_encoding")[0][0])

    with pytest.raises(UnicodeEncodeError):
        encoding.encode("🐘")


@with_garbage
@pytest.mark.parametrize("words", [[], ["--json"]], ids=["lines", "json"])
def test_tail_prints_them(foreign, words):
    with tailing(foreign.url, "orders", "--count", "2", *words) as process:
        foreign.insert_garbage()
        foreign.execute("INSERT INTO orders (item) VALUES (%s)", foreign.letters)
        code, out, err = finish(process)

    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert json.dumps(foreign.as_read)[1:-1] in first
    assert (json.dumps(foreign.letters)[1:-1] if words else foreign.letters) in second


@with_garbage
def test_an_error_names_the_tables_that_are_there(foreign, registry):
    foreign.execute('CREATE TABLE "{}" ()'.format("t" + foreign.letters))
    registry.listen("t", "after_insert", print)

    with pytest.raises(UsageError, match="t" + foreign.letters):
        Hub(foreign.url, registry).start()


@pytest.mark.parametrize("encoding", ["UTF8", "LATIN1", "EUC_JP", "SQL_ASCII"])
@pytest.mark.parametrize("kind", ["", "PARTITION BY RANGE (id)"], ids=["plain", "partitioned"])
def test_a_context_that_is_too_long_is_cut_between_two_characters(server, encoding, kind, heard):
    database = Postgres(server, encoding)
    try:
        database.execute("CREATE TABLE orders (id int) {}".format(kind))
        if kind:
            database.execute("CREATE TABLE orders_all PARTITION OF orders DEFAULT")
        registry = Registry()
        registry.listen("orders", ("after_change", "after_truncate"), heard)
        letter = {"EUC_JP": "'x'", "SQL_ASCII": "E'\\xC3\\xA9'"}.get(encoding, "chr(233)")
        with Hub(database.url, registry):
            database.execute(
                "SELECT set_config('pgevents.context', repeat('x', 16379) || repeat({}, 1000000),"
                " false); INSERT INTO orders VALUES (1); UPDATE orders SET id = 2;"
                " DELETE FROM orders; TRUNCATE orders".format(letter)
            )
            contexts = {event.context for event in heard.take(4)}
        sizes = database.execute("SELECT max(octet_length(context)) FROM pgevents.log")
    finally:
        database.close()

    (cut,) = contexts
    # SQL_ASCII counts bytes: 16,384 of them would end within a letter.
    letters = ("x" if encoding == "EUC_JP" else "\u00e9") * (2 if encoding == "SQL_ASCII" else 5)
    assert cut == "x" * 16_379 + letters + "... (cut)"
    assert sizes[0][0] < 65_536
