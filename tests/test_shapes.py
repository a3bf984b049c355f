"""How the text of a row becomes Python values; without a database."""

import copy
import datetime
import decimal
import json
import pickle

import pytest

from pgevents.database.backend import Backend
from pgevents.database.relation import Relation
from pgevents.delivery.topics import Topics
from pgevents.events.values import (
    Row,
    Shape,
    chain,
    in_json,
    parse_by_column,
    parse_datetime,
    parse_exactly,
    parse_time,
)
from pgevents.listening.target import as_target


def refuse(value):
    raise ValueError(value)


def shape(*columns, **options):
    return Shape("public", "orders", columns, **options)


# A row


@pytest.mark.parametrize(
    "change",
    [
        lambda row: row.__setitem__("id", 8),
        lambda row: row.__delitem__("id"),
        lambda row: row.__ior__({"id": 8}),
        lambda row: row.clear(),
        lambda row: row.pop("id"),
        lambda row: row.popitem(),
        lambda row: row.setdefault("item", "tea"),
        lambda row: row.update(id=8),
    ],
)
def test_a_row_cannot_be_changed(change):
    row = Row(id=7)

    with pytest.raises(TypeError, match=r"take a copy, dict\(event.new\)"):
        change(row)

    assert row == {"id": 7}


@pytest.mark.parametrize(
    "copied", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_a_copy_of_a_row_is_a_row(copied):
    row = copied(Row(id=7, tags=["a"]))

    assert type(row) is Row
    assert row == {"id": 7, "tags": ["a"]}


# A shape


def test_a_value_is_decoded_by_its_columns_decoder():
    read = shape("id", "price", "item", decoders={"price": decimal.Decimal})

    row = read.decode({"id": 7, "price": "9.90", "item": "tea"})

    assert type(row) is Row
    assert row == {"id": 7, "price": decimal.Decimal("9.90"), "item": "tea"}
    assert not read.stale


def test_null_is_none_whatever_the_decoder_does():
    read = shape("price", decoders={"price": refuse})

    assert read.decode({"price": None}) == {"price": None}
    assert not read.stale


def test_a_column_that_the_row_lacks_is_not_invented():
    read = shape("id", "price", decoders={"price": decimal.Decimal})

    assert read.decode({"id": 7}) == {"id": 7}
    assert not read.stale


def test_a_value_that_does_not_fit_is_given_as_it_stands_in_the_log():
    read = shape("id", "at", decoders={"at": refuse, "id": int})

    assert read.decode({"id": "7", "at": "10000-01-01"}) == {"id": 7, "at": "10000-01-01"}
    assert read.stale  # the table was altered, perhaps


def test_a_column_that_the_shape_does_not_know_is_given_and_makes_it_stale():
    read = shape("id")

    assert read.decode({"id": 7, "item": "tea"}) == {"id": 7, "item": "tea"}
    assert read.stale


def test_the_row_that_was_read_stays_as_it_was():
    raw = {"price": "9.90"}

    shape("price", decoders={"price": decimal.Decimal}).decode(raw)

    assert raw == {"price": "9.90"}


def test_a_shape_does_not_share_its_decoders_with_who_gave_them():
    decoders = {"id": int}
    read = shape("id", decoders=decoders)

    decoders["id"] = refuse

    assert read.decode({"id": "7"}) == {"id": 7}


class Catalog(Backend):
    """A database whose tables are as they are learned."""

    def shape(self, relation, target):
        return Shape(relation.schema, relation.name, relation.columns, relation.key)


def test_which_columns_a_table_has_is_known_from_the_last_look_at_it():
    topics, target = Topics(Catalog()), as_target("orders")
    topics.learn(target, Relation("public", "orders", ("id",), ("id",)))
    read = topics.shape("public.orders")

    topics.learn(target, Relation("public", "orders", ("id", "paid"), ("id",)))

    assert read.present() == {"id", "paid"}
    assert read.columns == {"id"}


def test_a_shape_of_which_nobody_knows_more_has_its_own_columns():
    assert shape("id").present() == {"id"}


# JSON


@pytest.mark.parametrize(
    "text, value",
    [
        ("12345678901234567890.10", decimal.Decimal("12345678901234567890.10")),
        ("0.1", decimal.Decimal("0.1")),
        ("1e400", decimal.Decimal("1e400")),
        ("7", 7),
        ("9223372036854775807", 2**63 - 1),
        ('"1.5"', "1.5"),
    ],
)
def test_no_digit_of_a_number_is_lost(text, value):
    found = parse_exactly(text)

    assert (type(found), found) == (type(value), value)


def test_inside_of_a_document_fractions_are_floats_again():
    document = parse_exactly('{"a": [1.5, 1, {"b": 2.5}], "c": "1.5", "d": null}')

    assert repr(in_json(document)) == "{'a': [1.5, 1, {'b': 2.5}], 'c': '1.5', 'd': None}"


@pytest.mark.parametrize(
    "row",
    [
        {"id": 7},
        {"a,b": 1, "c:d": "e", '"': "}", "\\": "]"},
        {"text": 'say "no", {or} [yes]: \\', "next": 2},
        {"nested": {"a": [1, {"b": "}"}]}, "list": ["],", []], "empty": {}, "null": None},
        {"": "", "é\u202e\n": "é\u202e\n"},
        {},
    ],
    ids=str,
)
@pytest.mark.parametrize("indent", [None, 1])
def test_reading_column_by_column_gives_the_same_row(row, indent):
    assert parse_by_column(json.dumps(row, indent=indent), json.loads) == row


def test_a_value_that_is_nested_too_deeply_is_given_as_its_text():
    deep = "[" * 100000 + "]" * 100000
    text = '{{"id": 7, "deep": {}, "item": "tea"}}'.format(deep)

    assert parse_by_column(text, json.loads) == {"id": 7, "deep": deep, "item": "tea"}


# Decoders


def test_two_decoders_are_called_one_after_the_other():
    assert chain(int, str)("007") == "7"
    assert chain(int, None) is int
    assert chain(None, str) is str
    assert chain(None, None) is None


def utc(hours=0, minutes=0, seconds=0):
    return datetime.timezone(datetime.timedelta(hours=hours, minutes=minutes, seconds=seconds))


@pytest.mark.parametrize(
    "text, found",
    [
        ("2026-11-27", datetime.datetime(2026, 11, 27)),
        ("2026-11-27 10:20", datetime.datetime(2026, 11, 27, 10, 20)),
        ("2026-11-27T10:20:30", datetime.datetime(2026, 11, 27, 10, 20, 30)),
        ("2026-11-27 10:20:30.5", datetime.datetime(2026, 11, 27, 10, 20, 30, 500000)),
        ("2026-11-27 10:20:30.1234", datetime.datetime(2026, 11, 27, 10, 20, 30, 123400)),
        ("2026-11-27 10:20:30.1234567", datetime.datetime(2026, 11, 27, 10, 20, 30, 123456)),
        ("2026-11-27 10:20:30Z", datetime.datetime(2026, 11, 27, 10, 20, 30, 0, utc())),
        ("2026-11-27 10:20:30+02", datetime.datetime(2026, 11, 27, 10, 20, 30, 0, utc(2))),
        ("2026-11-27 10:20:30.5-03", datetime.datetime(2026, 11, 27, 10, 20, 30, 500000, utc(-3))),
        ("2026-11-27 10:20:30+05:30", datetime.datetime(2026, 11, 27, 10, 20, 30, 0, utc(5, 30))),
        (
            "1880-01-01 00:00:00.25+00:53:28",
            datetime.datetime(1880, 1, 1, 0, 0, 0, 250000, utc(0, 53, 28)),
        ),
    ],
)
def test_a_time_is_read_with_any_fraction_and_zone(text, found):
    assert parse_datetime(text) == found
    assert parse_datetime(text).utcoffset() == found.utcoffset()


@pytest.mark.parametrize(
    "text", ["infinity", "10000-01-01 00:00:00", "0044-03-15 12:00:00 BC", "2026-02-30", "", "tea"]
)
def test_a_time_that_python_does_not_have_is_an_error(text):
    with pytest.raises(ValueError):
        parse_datetime(text)


@pytest.mark.parametrize(
    "text, found",
    [
        ("10:20:30", datetime.time(10, 20, 30)),
        ("10:20:30.5", datetime.time(10, 20, 30, 500000)),
        ("10:20:30+02", datetime.time(10, 20, 30, 0, utc(2))),
    ],
)
def test_a_time_of_day_is_read_in_the_same_way(text, found):
    assert parse_time(text) == found
    assert parse_time(text).utcoffset() == found.utcoffset()


def test_a_time_of_day_that_python_does_not_have_is_an_error():
    with pytest.raises(ValueError):
        parse_time("24:00:00")
