"""Names, patterns and messages of channels, without a database."""

import datetime
import json
import pickle

import pytest

from pgevents import Message, Outgoing, UsageError
from pgevents.channels.names import channel_name, channel_pattern, keys_of, split
from pgevents.channels.outgoing import Writer, as_messages
from pgevents.channels.subscription import Subscription
from pgevents.payloads.enrichers import Enrichers

NOW = datetime.datetime(2026, 1, 2, tzinfo=datetime.timezone.utc)


def message(payload='{"id":1}', envelope='{"id":"a"}', channel="orders.new"):
    return Message((7, 8, NOW, "channel:" + channel, "read", envelope, payload, '{"user":1}'))


def named(fn):
    def listener(message):
        fn(message)

    return listener


@pytest.mark.parametrize(
    "name", ["a", "orders.new", "ünï", "a b", "it's", '"', "%", "_", ".", "a."]
)
def test_a_channel_may_have_almost_any_name(name):
    assert channel_name(name) == channel_pattern(name) == name


@pytest.mark.parametrize(
    "name, said",
    [
        ("", "give a name"),
        (None, "give a name"),
        (7, "give a name"),
        ("a\0b", "NUL"),
        ("\ud800", "not Unicode"),
        ("orders.*", 'without "*"'),
        ("*", 'without "*"'),
        ("x" * 201, "200 bytes"),
        ("é" * 101, "200 bytes"),
    ],
)
def test_a_message_goes_to_one_channel(name, said):
    with pytest.raises(UsageError, match=said):
        Writer(None, None).written(Outgoing(name, 1))


@pytest.mark.parametrize("pattern", ["a*", "*.a", "a.*.b", "**", "a.**", ".*" * 2])
def test_a_star_stands_alone_or_behind_the_last_dot(pattern):
    with pytest.raises(UsageError, match="stands alone, or at the end after a dot"):
        channel_pattern(pattern)


def test_a_channel_matches_the_patterns_of_each_of_its_beginnings():
    assert keys_of("channel:a.b.c") == (
        "channel:a.b.c",
        "channel:a.*",
        "channel:a.b.*",
        "channel:*",
    )
    assert keys_of("channel:a") == ("channel:a", "channel:*")


def test_topics_are_told_from_the_beginnings_of_patterns():
    topics = ["public.orders", "public.odd*", "channel:a", "channel:a.*", "channel:*"]

    assert split(topics) == (
        ["public.orders", "public.odd*", "channel:a"],
        ["channel:a.", "channel:"],
    )


@pytest.mark.parametrize(
    "given, said",
    [
        ("abc", "give a list"),
        ({"a": 1}, "give a list"),
        ([("a",)], "no message: "),
        (["ab"], "no message: 'ab'"),
        ([("a", 1, {}, 2)], "no message"),
        ([None], "no message: None"),
    ],
)
def test_what_is_no_message_is_named(given, said):
    with pytest.raises(UsageError, match=said.replace("give", "[Gg]ive")):
        as_messages(given)


@pytest.mark.parametrize(
    "fields, said",
    [
        ({"key": 7}, "key=7"),
        ({"key": ""}, "key=''"),
        ({"id": b"x"}, "id=b'x'"),
        ({"id": "a\0"}, "NUL"),
        ({"metadata": [1]}, "metadata=\\[1\\]: give a dict"),
        ({"metadata": {"a": float("nan")}}, "metadata.*JSON has no nan"),
        ({"payload": {1}}, "JSON has no set"),
    ],
)
def test_what_is_wrong_with_a_message_is_said_before_the_database_is_asked(fields, said):
    with pytest.raises(UsageError, match=said):
        Writer(None, None).written(Outgoing(**{"channel": "a", "payload": 1, **fields}))


def test_a_payload_has_the_size_that_was_agreed():
    writer = Writer(None, 5)

    assert writer.written(Outgoing("a", "abc")).payload == '"abc"'
    with pytest.raises(UsageError, match="payload of 6 bytes for 'a': max_payload is 5"):
        writer.written(Outgoing("a", "abcd"))


def test_a_message_has_what_was_sent_and_where_it_stands():
    found = message(envelope='{"id":"a","key":"17","metadata":{"n":1}}')

    assert (found.id, found.key, found.metadata, found.payload) == ("a", "17", {"n": 1}, {"id": 1})
    assert (found.channel, found.position, found.transaction, found.at) == ("orders.new", 7, 8, NOW)
    assert (found.context, found.attempt, found.redelivered) == ({"user": 1}, 1, False)
    assert repr(found) == "<Message a orders.new>"


@pytest.mark.parametrize("envelope", [None, "", "[]", "7", "{", '{"id":7,"key":[],"metadata":1}'])
def test_an_envelope_that_somebody_has_written_otherwise_does_no_harm(envelope):
    found = message(envelope=envelope)

    assert (found.id, found.key, found.metadata) == ("7", None, {})


@pytest.mark.parametrize("text", ["{", "[" * 100000])
def test_a_payload_that_cannot_be_read_is_an_error_of_its_reader(text):
    with pytest.raises(UsageError, match="payload of <Message a orders.new> cannot be read"):
        message(text).payload


def test_a_message_travels_as_json_and_as_a_pickle():
    sent = message('{"$decimal":"9.90"}', '{"id":"a","key":"k"}')

    for found in (Message.from_json(sent.to_json()), pickle.loads(pickle.dumps(sent))):
        assert found == sent and hash(found) == hash(sent)
        assert (found.payload, found.key, found.at, found.context) == (
            sent.payload,
            "k",
            NOW,
            {"user": 1},
        )
    with pytest.raises(UsageError, match="no message in JSON"):
        Message.from_json("{}")


@pytest.mark.parametrize(
    "options, said",
    [
        ({"channels": ()}, "no channel given"),
        ({"channels": ("a*",)}, "stands alone"),
        ({"type": int}, "give a dataclass"),
        ({"group": ""}, "group="),
        ({"transactional": True}, "goes with group="),
        ({"fn": "x"}, "cannot call"),
        ({"fn": lambda: 1}, "has to take one argument, the message"),
        ({"fn": lambda: 1, "batch": True}, "a list of messages"),
    ],
)
def test_a_subscription_that_cannot_work_is_refused_at_once(options, said):
    given = {"fn": print, "channels": ("a",), **options}

    with pytest.raises(UsageError, match=said):
        Subscription(**given)


def test_what_enriches_is_in_the_metadata_of_each_message_and_a_given_value_comes_first():
    enrichers = Enrichers()
    enrichers.add(lambda: {"trace": "t", "user": "default"})
    writer = Writer(enrichers=enrichers)

    found = [
        json.loads(writer.written(Outgoing("a", 1, metadata=given)).envelope)["metadata"]
        for given in (None, {"user": "ann"})
    ]

    assert found == [{"trace": "t", "user": "default"}, {"trace": "t", "user": "ann"}]


def test_two_functions_that_enrich_otherwise_are_an_error():
    enrichers = Enrichers()
    enrichers.add(lambda: {"user": 1})
    enrichers.add(lambda: {"user": 2})

    with pytest.raises(UsageError, match="two functions of enrich"):
        Writer(enrichers=enrichers).written(Outgoing("a", 1))
