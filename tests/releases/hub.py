"""A hub of whatever release is on the path: it reports each event, and each gap, as a line of JSON.

    python tests/releases/hub.py URL GROUP    until its standard input ends

It imports nothing of the tests, which need the release that they test.
"""

import json
import sys
import threading

import pgevents
from pgevents import Hub, Registry, signals

QUICK = 2.0  # seconds that the log is kept; a quarter of it lies between two checks of the triggers


def say(**what):
    with saying:
        print(json.dumps(what), flush=True)


saying = threading.Lock()
url, group = sys.argv[1:]
registry = Registry()
registry.listen("orders", "after_change", lambda event: say(plain=event.new["item"]))
registry.listen("orders", "after_change", lambda event: say(group=event.new["item"]), group=group)
signals.gap.connect(lambda hub, reason: say(gap=reason), weak=False)

with Hub(url, registry, retention=QUICK, group_retention=600):
    say(started=pgevents.__version__)
    sys.stdin.read()
