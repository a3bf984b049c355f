"""pgevents, publishing and receiving: as sqlspec_channels.py, in a process of its own.

Takes a URL, a number and what to do: "publish", "publish_many" and "drain" (a group that handles
what waits), print how many seconds
that many messages took; "listen" prints "ready", then the time of each call.
"""

import sys
import threading
import time

from pgevents import Hub, Registry

CHANNEL, GROUP = "orders", "w"
AT_ONCE = 1000  # messages of one call of publish_many()


def main(url: str, number: int, what: str) -> None:
    """Do it."""
    hub = Hub(url, Registry())
    hub.install()
    if what == "listen":
        listen(hub)
    if what == "drain":
        print(drain(hub, number), flush=True)
        return
    publish(hub, 20, what)
    begun = time.monotonic()
    publish(hub, number, what)
    print(time.monotonic() - begun, flush=True)


def publish(hub: Hub, number: int, what: str) -> None:
    """Publish so many, one by one or many at once."""
    if what == "publish":
        for n in range(number):
            hub.publish(CHANNEL, {"id": n, "item": "a book"})
        return
    for first in range(0, number, AT_ONCE):
        upto = min(number, first + AT_ONCE)
        hub.publish_many([(CHANNEL, {"id": n, "item": "a book"}) for n in range(first, upto)])


def drain(hub: Hub, number: int) -> float:
    """Let a group handle so many messages that wait; return how many seconds that took."""
    done = threading.Event()
    left = number

    def handle(_: object) -> None:
        nonlocal left
        left -= 1
        if left == 0:
            done.set()

    hub.subscribe(CHANNEL, group=GROUP)(handle)
    with hub:
        hub.group(GROUP).pause()
        publish(hub, number, "publish_many")
        begun = time.monotonic()
        hub.group(GROUP).resume()
        done.wait()
        return time.monotonic() - begun


def listen(hub: Hub) -> None:
    """Print the time of each call, for ever."""
    hub.subscribe(CHANNEL)(lambda _: print(time.monotonic(), flush=True))
    hub.start()
    print("ready", flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), sys.argv[3])
