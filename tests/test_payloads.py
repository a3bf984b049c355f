"""A payload comes back exactly as it was, or is refused with a sentence that says where."""

import dataclasses
import datetime
import decimal
import enum
import json
import uuid
from collections import OrderedDict, namedtuple
from typing import Dict, List, Optional, Tuple

import pytest

from pgevents import UsageError, fits_notify, payload_size
from pgevents.payloads.models import check_model, to_model
from pgevents.payloads.text import from_text, to_text


class Size(enum.Enum):
    SMALL = "s"


@dataclasses.dataclass
class Line:
    item: str
    price: decimal.Decimal


@dataclasses.dataclass
class Order:
    id: uuid.UUID
    lines: List[Line]
    at: datetime.datetime
    size: Size = Size.SMALL
    note: Optional[str] = None
    tags: Tuple[str, ...] = ()
    by_name: Dict[str, Line] = dataclasses.field(default_factory=dict)


ORDER = Order(
    uuid.UUID(int=7),
    [Line("tea", decimal.Decimal("9.90"))],
    datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc),
    tags=("a", "b"),
    by_name={"x": Line("cup", decimal.Decimal("1"))},
)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        0,
        -1,
        2**200,
        1.5,
        0.1,
        1e300,
        5e-324,
        "",
        "\x00",
        "\u2028",
        "\U0001f600",
        [],
        {},
        [None, [1], {"a": {"b": []}}],
        {"": 1, "$decimal": "x"},
        {"$decimal": "9.90"},
        {"$object": {"$decimal": "1"}},
        decimal.Decimal("12345678901234567890.10"),
        datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.timezone.utc),
        datetime.date(1, 1, 1),
        datetime.time(23, 59, 59, 999999),
        datetime.timedelta(-1, 2, 3),
        uuid.UUID(int=2**128 - 1),
        b"\x00\xff",
        (1, (2, "x")),
        {"nested": [decimal.Decimal("1.0"), (1,)]},
    ],
)
def test_a_payload_comes_back_with_its_type(value):
    text = to_text(value)

    found = from_text(text)

    assert (type(found), repr(found)) == (type(value), repr(value))
    assert text.isascii() and json.loads(text) is not NotImplemented


@pytest.mark.parametrize(
    "value, said",
    [
        (float("nan"), "payload: JSON has no nan"),
        ({"a": [1, float("-inf")]}, "payload['a'][1]: JSON has no -inf"),
        ({1: "x"}, "payload: the key 1 is no text"),
        ({None: "x"}, "payload: the key None is no text"),
        ({"a": {(1,): 2}}, "payload['a']: the key (1,) is no text"),
        ("\ud800", "lone surrogate"),
        ({"\udfff": 1}, "lone surrogate"),
        ({1, 2}, "payload: JSON has no set: give a sorted list"),
        ([frozenset()], "payload[0]: JSON has no frozenset"),
        (object(), "JSON has no object"),
        (bytearray(b"x"), "JSON has no bytearray"),
        (Size.SMALL, "Size.SMALL would come back as 's'"),
        (namedtuple("Point", "x y")(1, 2), "a Point would come back as a tuple"),
        (1j, "JSON has no complex"),
    ],
    ids=lambda value: None,
)
def test_what_would_come_back_as_something_else_is_refused_and_named(value, said):
    with pytest.raises(UsageError) as caught:
        to_text(value)

    assert said in str(caught.value)


def test_a_payload_that_holds_itself_is_refused():
    endless = []
    endless.append(endless)

    with pytest.raises(UsageError, match="nested too deeply, or holds itself"):
        to_text(endless)


def test_an_ordered_dict_keeps_its_order():
    assert list(from_text(to_text(OrderedDict([("b", 1), ("a", 2)])))) == ["b", "a"]


@pytest.mark.parametrize(
    "text, value",
    [
        ("9.90", 9.9),
        ("12345678901234567890.123", decimal.Decimal("12345678901234567890.123")),
        ("1e400", decimal.Decimal("1e400")),
        ("1" * 5000, decimal.Decimal("1" * 5000)),
        ('{"$decimal": 5}', {"$decimal": 5}),
        ('{"$nothing": "x"}', {"$nothing": "x"}),
        ('"\\u0000"', "\x00"),
    ],
)
def test_json_of_other_writers_loses_no_digit_and_raises_nothing(text, value):
    assert from_text(text) == value and type(from_text(text)) is type(value)


def test_a_dataclass_comes_back_with_all_that_it_holds():
    plain = from_text(to_text(ORDER))

    assert to_model(Order, plain) == ORDER
    assert plain["size"] == "s" and plain["tags"] == ["a", "b"]


def test_a_dataclass_is_made_of_what_sql_writes():
    given = json.loads(
        '{"id": "00000000-0000-0000-0000-000000000007", "at": "2026-01-02T00:00:00+00:00",'
        ' "lines": [{"item": "tea", "price": "9.90"}], "tags": ["a", "b"], "new_field": 1,'
        ' "by_name": {"x": {"item": "cup", "price": 1}}}'
    )

    assert to_model(Order, given) == ORDER


@pytest.mark.parametrize("given", [None, [], "x", {"id": 1}, {"size": "xxl"}])
def test_what_a_class_does_not_take_is_refused_with_its_name(given):
    with pytest.raises(UsageError, match="no Order can be made"):
        to_model(Order, given)


def test_attrs_and_pydantic_objects_come_back_where_they_are_installed():
    attr = pytest.importorskip("attr")
    kind = attr.make_class("Paid", {"_amount": attr.ib(), "by": attr.ib(default="card")})

    paid = to_model(kind, from_text(to_text(kind(decimal.Decimal("1.50")))))

    assert paid == kind(decimal.Decimal("1.50"))


def test_a_pydantic_model_is_validated():
    pydantic = pytest.importorskip("pydantic")
    kind = pydantic.create_model("Paid", amount=(decimal.Decimal, ...), at=(datetime.date, ...))
    paid = kind(amount="1.50", at="2026-01-02")

    assert to_model(kind, from_text(to_text(paid))) == paid
    with pytest.raises(UsageError, match="no Paid can be made"):
        to_model(kind, {"amount": "x"})


@pytest.mark.parametrize("kind", [int, "Order", None, dict])
def test_a_class_without_fields_is_no_type_of_a_payload(kind):
    with pytest.raises(UsageError, match="give a dataclass"):
        check_model(kind)


def test_an_encoder_and_a_decoder_are_asked():
    text = to_text({3, 1}, encoder=sorted)

    assert (text, from_text(text, decoder=set)) == ("[1,3]", {1, 3})


def test_the_size_of_a_payload_is_that_of_its_text():
    assert payload_size({"a": "é"}) == len('{"a":"\\u00e9"}')
    assert fits_notify("x" * 7999) and not fits_notify("x" * 8000)
    assert fits_notify("é" * 3999) and not fits_notify("é" * 4000)
