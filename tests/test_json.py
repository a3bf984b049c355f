"""An event goes to JSON and back as it was; what is no event is one clear error. No database."""

import datetime
import decimal
import enum
import json
import math
import sys
import types

import pytest

from pgevents import Event, UsageError
from pgevents.events.values import Shape

NOW = datetime.datetime(2026, 11, 21, 12, tzinfo=datetime.timezone(datetime.timedelta(hours=1)))


class Color(enum.Enum):
    red = 1
    crimson = 1  # an alias


class Mode(enum.IntFlag):
    read = 1
    write = 2


class Own:
    """A type that has no tag."""

    def __repr__(self):
        return "Own"


def event(value, raw="as the log has it", **more):
    """An event of one row with one column, which is read as `value`."""
    row = (7, 8, NOW, "public.t", "insert", None, json.dumps({"v": raw}), None)
    return Event(row, Shape("public", "t", ("v",), decoders={"v": lambda _: value}, **more))


def back(value, raw="as the log has it"):
    """What has become of a value on the other side."""
    return Event.from_json(event(value, raw).to_json()).new["v"]


@pytest.mark.parametrize(
    "value",
    [
        {1: "x", "1": "y"},
        {None: 1},
        {(1, 2): [3]},
        {Color.red: 1},
        {1.5: {2: 3}},
        {"$dict": 1},
        {"$decimal": "1"},
        {"a": {"$tuple": []}},
        {},
        [(1, 2), [decimal.Decimal("1.10")], {"a": b"\0"}],
        [[]],
        ((),),
        Color.crimson,
        Mode.read,
        math.inf,
        NOW,
        NOW.replace(tzinfo=None),
        NOW.timetz(),
        datetime.timedelta(-1, 5),
        "\ud800",
    ],
    ids=repr,
)
def test_a_value_comes_back_as_it_was(value):
    assert back(value) == value
    assert type(back(value)) is type(value)


@pytest.mark.parametrize(
    "value",
    [
        Own(),
        [Own()],
        (1, Own()),
        {"a": [Own()]},
        {Own(): 1},
        Mode.read | Mode.write,
        Mode(0),
    ],
    ids=str,
)
def test_what_holds_a_value_without_a_tag_goes_as_the_log_has_it(value):
    assert back(value, raw=["[1,5)", None]) == ["[1,5)", None]


def nested(levels):
    return "[" * levels + "]" * levels


def test_a_value_that_is_too_deep_for_python_arrives_as_its_text():
    row = f'{{"a": "]}},[", "deep" : {nested(100_000)} , "k:": {{"x": [1, "\\""]}}, "n": 1.10}}'
    found = Event(
        (7, 8, NOW, "public.t", "insert", None, row, f'{{"user": {nested(100_000)}}}'),
        Shape("public", "t", key=("n",)),
    )

    assert found.new == {"a": "]},[", "deep": nested(100_000), "k:": {"x": [1, '"']}, "n": 1.1}
    assert found.key == 1.1
    assert found.context == f'{{"user": {nested(100_000)}}}'
    assert Event.from_json(found.to_json()).new == found.new


def test_what_is_too_deep_to_be_written_or_read_is_one_clear_error():
    value = []
    for _ in range(sys.getrecursionlimit()):
        value = [value]
    deep = event(value)

    with pytest.raises(UsageError, match="event 7 of public.t .* nested too deeply"):
        deep.to_json()
    text = event(1).to_json().replace('{"v": 1}', '{"v": %s}' % nested(900))
    for one in (text, nested(100_000)):
        try:
            assert Event.from_json(one).new["v"] is not None
        except UsageError as error:
            assert "no event in JSON" in str(error)


@pytest.mark.parametrize(
    "field, wrong",
    [
        ("position", "x"),
        ("position", True),
        ("position", 1.0),
        ("position", None),
        ("transaction", "8"),
        ("at", "2026-11-21T12:00:00"),
        ("at", "noon"),
        ("at", None),
        ("topic", None),
        ("topic", 5),
        ("operation", "upsert"),
        ("operation", []),
        ("schema", 5),
        ("table", None),
        ("key", "id"),
        ("key", [1]),
        ("key", None),
        ("old", []),
        ("new", "row"),
        ("new", {"v": {"$timedelta": "1"}}),
        ("new", {"v": {"$decimal": [0, [1], 2]}}),
        ("new", {"v": {"$bytes": 5}}),
        ("new", {"v": {"$dict": {"a": 1}}}),
        ("new", {"v": {"$set": [[1]]}}),
        ("new", {"v": {"$enum": ["json", "x", []]}}),
        ("changed", "v"),
        ("changed", [None]),
        ("context", {}),
        ("attempt", 0),
        ("attempt", "1"),
        ("redelivered", 1),
        ("declared", "no"),
    ],
)
def test_a_field_of_another_type_is_refused(field, wrong):
    given = {**json.loads(event(1).to_json()), field: wrong}

    with pytest.raises(UsageError, match="no event in JSON"):
        Event.from_json(json.dumps(given))


def test_a_field_that_is_missing_is_refused_but_for_what_is_new():
    given = json.loads(event(1).to_json())
    del given["declared"]  # an event of release 0.1
    assert Event.from_json(json.dumps(given)).new == {"v": 1}

    for field in given:
        with pytest.raises(UsageError, match="no event in JSON"):
            Event.from_json(json.dumps({k: v for k, v in given.items() if k != field}))


def test_the_name_of_an_enum_runs_no_code(monkeypatch):
    ran = []
    trap = types.ModuleType("trap")
    trap.__getattr__ = ran.append
    monkeypatch.setitem(sys.modules, "trap", trap)

    class Meta(type):
        def __getattr__(cls, name):
            ran.append(name)

    trap.Holder = Meta("Holder", (), {"Color": Color})
    names = [
        ["trap", "Color", "red"],
        ["trap", "Holder.Other", "red"],
        ["json", "loads", "red"],
        ["trap", "Holder.Color", "red"],
        [__name__, "Color", "gone"],
        ["absent", "E", "x"],
    ]
    found = []
    for name in names:
        given = {**json.loads(event(1).to_json()), "new": {"v": {"$enum": name}}}
        found.append(Event.from_json(json.dumps(given)).new["v"])

    assert found == ["red", "red", "red", Color.red, "gone", "x"]
    assert ran == []
