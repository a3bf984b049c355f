"""Streams for the tests of applications, without a database."""

import dataclasses

import pytest

from pgevents import ConcurrencyError, Hub, Registry, UsageError
from pgevents.testing import FakeStreams, Scenario


def happened(number):
    return {"type": "happened", "number": number}


def test_fake_streams_append_and_load_with_the_checks_of_real_ones():
    streams = FakeStreams()
    streams.append("a", happened(1), happened(2), expected_version=0, metadata={"m": 1})
    with pytest.raises(ConcurrencyError, match="at version 2, not at 1"):
        streams.append("a", happened(3), expected_version=1)
    with pytest.raises(UsageError, match="JSON has no set"):
        streams.append("a", happened({1}))

    history = streams.load("a", after=1)
    assert [(e.version, e.data, e.metadata) for e in history] == [(2, happened(2), {"m": 1})]
    assert streams.for_tenant("acme").load("a").version == 0
    assert streams.delete("a") == 2 and list(streams.load("a")) == []
    assert streams.append("a", happened(3), expected_version=2)[0].version == 3


def test_fake_streams_know_the_types_of_a_hub():
    real = Hub("postgresql:///nowhere", Registry()).streams

    @real.event("paid")
    @dataclasses.dataclass
    class Paid:
        amount: int

    fake = FakeStreams(real)
    fake.append("a", Paid(3))
    assert [event.data for event in fake.load("a")] == [Paid(3)]


def test_a_scenario_says_what_comes_of_what_was_given():
    def add(events, number):
        if number < 0:
            raise ValueError("below 0")
        return [happened(number + len(events))]

    Scenario(add).given(happened(1)).when(5).then(happened(6)).when(5).then(happened(7))
    Scenario(add).when(-1).raises(ValueError)
    with pytest.raises(AssertionError, match="and not"):
        Scenario(add).when(1).then(happened(2))
    with pytest.raises(AssertionError, match="came to"):
        Scenario(add).when(1).raises(ValueError)
    with pytest.raises(ValueError):
        Scenario(add).when(-1).then()
