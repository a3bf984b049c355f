"""Django: an app that starts a hub where requests are served, and takes models as tables.

    INSTALLED_APPS = [..., "pgevents.contrib.django"]
    PGEVENTS = {"DATABASES": ["default"]}

    # shop/events.py
    @listens_for(Order, "after_update", columns=["status"])
    def ship(event):
        order = event.load()

In reading order; each imports only what stands above it:

    config         the setting PGEVENTS, checked
    address        where an entry of DATABASES leads
    fields         values as Django's fields give them
    targets        models as what is listened to
    databases      the hub of each database: made, started, stopped
    writing        messages, context and capture, in the transaction of a Django connection
    testing        a mixin for TransactionTestCase, whose hubs run
    migrating      SQLite's tables that migrations alter
    checks         what manage.py check says
    models         what Django needs to send post_migrate to an app
    apps           the app: what happens when Django starts
    management     manage.py pgevents
"""

from .databases import (
    around,
    contains,
    group,
    hub,
    listen,
    listens_for,
    remove,
    start,
    stop,
    subscribe,
    watch,
)
from .writing import context, publish, publish_many, suppressed

__all__ = [
    "around",
    "contains",
    "context",
    "group",
    "hub",
    "listen",
    "listens_for",
    "publish",
    "publish_many",
    "remove",
    "start",
    "stop",
    "subscribe",
    "suppressed",
    "watch",
]
