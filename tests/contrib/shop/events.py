"""Listeners, which the app finds by the name of this module; what they receive is remembered."""

from pgevents import listens_for
from pgevents.contrib.django import subscribe
from pgevents.testing import Recorder

from .models import Order

heard = Recorder()
messages = Recorder()


@listens_for(Order, "after_insert", "after_update", "after_delete")
def remember(event):
    heard(event)


subscribe("orders.*")(messages)
