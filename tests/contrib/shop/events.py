"""Listeners, which the app finds by the name of this module; what they receive is remembered."""

import os

from pgevents import listens_for
from pgevents.contrib.django import group, subscribe
from pgevents.testing import Recorder

from .models import Customer, Order

heard = Recorder()
messages = Recorder()


@listens_for(Order, "after_insert", "after_update", "after_delete")
def remember(event):
    heard(event)


subscribe("orders.*")(messages)


if os.environ.get("SITE_GROUP"):
    group("shippers", ordered=False, lease=5)

    @listens_for(Order, "after_insert", group="shippers")
    def ship(event):
        """Write down which process that was."""
        Customer.objects.create(name="{} {}".format(event.key, os.getpid()))
