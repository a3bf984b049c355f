"""The processes of a group: each stands ready, and takes nothing until it is told to."""

import multiprocessing
import multiprocessing.connection
import time
from typing import Any, Callable, List, Sequence, Tuple

import pgevents

from .listeners import Handle, Listening, count, read

GROUP = "orders"
PAUSE = 0.001  # seconds that the handler takes which has something to do
WORK = 0.05  # seconds that the handler takes whose process is killed


class Member(Listening):
    """A process of the group, for a ``with``.

    ``handler`` is one of those below, with its ``arguments``; ``options`` are
    the group's. The group is to be paused.
    """

    def __init__(
        self, url: str, handler: str, *arguments: Any, batch: bool = False, **options: Any
    ) -> None:
        self._spawn(_run, url, handler, arguments, batch, options)

    def begin(self) -> float:
        """Let the group go on, and this process look; return when that was."""
        self._pipe.send("begin")
        return float(self.next())


def first(members: Sequence[Member], timeout: float = 60.0) -> Tuple[Member, Any]:
    """Return which of them says something first, and what."""
    pipes = {member._pipe: member for member in members}
    found = multiprocessing.connection.wait(list(pipes), timeout)
    if not found:
        raise TimeoutError("no member has said anything for {:.0f} s".format(timeout))
    member = pipes[found[0]]  # type: ignore[index]
    return member, member.next()


def countdown(number: int) -> Any:
    """Return a number that several processes count down together."""
    return multiprocessing.get_context("spawn").Value("q", number)


def _run(pipe: Any, url: str, handler: str, arguments: Any, batch: bool, options: Any) -> None:
    registry = pgevents.Registry()
    handle = HANDLERS[handler](pipe, *arguments)
    registry.listen("orders", "after_insert", handle, group=GROUP, batch=batch)
    hub = pgevents.Hub(url, registry)
    group = hub.group(GROUP, **options)
    with hub:
        pipe.send("ready")
        while pipe.recv() == "begin":
            pipe.send(time.monotonic())
            group.resume()


# Handlers, beside those of listeners.


def count_batches(pipe: Any, number: int) -> Callable[[List[Any]], None]:
    """Do nothing; send the time of the call that completes the number."""
    left = number

    def handle(events: List[Any]) -> None:
        nonlocal left
        left -= len(events)
        if left <= 0:
            left = number
            pipe.send(time.monotonic())

    return handle


def pause(pipe: Any, left: Any) -> Handle:
    """Take a millisecond; send the time of the call that completes the ``countdown``."""

    def handle(_: Any) -> None:
        time.sleep(PAUSE)
        with left.get_lock():
            left.value -= 1
            done = left.value == 0
        if done:
            pipe.send(time.monotonic())

    return handle


def work(pipe: Any) -> Handle:
    """Send the time of each call, and take a while."""

    def handle(_: Any) -> None:
        pipe.send(time.monotonic())
        time.sleep(WORK)

    return handle


HANDLERS = {
    "count": count,
    "read": read,
    "count_batches": count_batches,
    "pause": pause,
    "work": work,
}
