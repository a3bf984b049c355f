"""Names of channels, and the patterns that stand for several.

    "orders.new"   one channel
    "orders.*"     each channel whose name begins with "orders."
    "*"            each channel

In the log a channel's topic is "channel:orders.new". A group's definition has patterns as
they were written.
"""

from typing import Any, Iterable, List, Tuple

from .. import checks
from ..errors import UsageError
from ..events.logrow import MESSAGE

NAME_BYTES = 200  # of a channel's name in UTF-8: an index of the database has to hold it


def channel_name(given: Any) -> str:
    """Return the name of one channel. Raises UsageError."""
    name = checks.name("channel", given)
    if "*" in name:
        raise UsageError(f'channel={name!r}: a message goes to one channel, without "*"')
    if len(name.encode()) > NAME_BYTES:
        raise UsageError(f"channel={name!r:.60}…: give {NAME_BYTES} bytes at the most")
    return name


def channel_pattern(given: Any) -> str:
    """Return the name of a channel, or a pattern, "orders.*" or "*". Raises UsageError."""
    pattern = checks.name("channel", given)
    if pattern == "*":
        return pattern
    if pattern.endswith(".*") and "*" not in pattern[:-2]:
        channel_name(pattern[:-2])
        return pattern
    if "*" in pattern:
        raise UsageError(
            f'channel={pattern!r}: "*" stands alone, or at the end after a dot: "orders.*"'
        )
    return channel_name(pattern)


def topic_of(channel: str) -> str:
    """Return the topic of a channel or a pattern."""
    return MESSAGE + channel


def is_topic(topic: str) -> bool:
    """Tell whether a topic is that of a channel or a pattern."""
    return topic.startswith(MESSAGE)


def keys_of(topic: str) -> Tuple[str, ...]:
    """Return the topics of a channel and of each pattern that it matches."""
    channel = topic[len(MESSAGE) :]
    parts = channel.split(".")
    prefixes = [".".join(parts[:count]) + ".*" for count in range(1, len(parts))]
    return tuple(MESSAGE + one for one in (channel, *prefixes, "*"))


def split(topics: Iterable[str]) -> Tuple[List[str], List[str]]:
    """Return the topics that stand for themselves, and the beginnings for which patterns stand."""
    exact, prefixes = [], []
    for topic in topics:
        if is_topic(topic) and topic.endswith("*"):
            prefixes.append(topic[:-1])
        else:
            exact.append(topic)
    return exact, prefixes
