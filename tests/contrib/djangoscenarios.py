"""What the tests of the Django app do inside of a site; each ends well, or raises."""

import datetime
import decimal
import json
import sys
import uuid

from django.core.management import call_command
from django.core.signals import request_started
from django.db import connection, connections, migrations, models, transaction
from django.db.migrations.state import ProjectState

import pgevents
from pgevents import UsageError
from pgevents.contrib import django as contrib
from tests.waiting import wait_for

from .shop.events import heard, messages
from .shop.models import Customer, Order, Rush, Tag, Urgent

VALUES = {
    "total": decimal.Decimal("1234567890.10"),
    "day": datetime.date(2026, 2, 28),
    "clock": datetime.time(23, 59, 58, 1),
    "took": datetime.timedelta(days=3, microseconds=7),
    "gift": True,
    "weight": 0.1,
    "extra": {"a": [1, None, "x"], "b": 1.5},
    "code": uuid.UUID(int=5),
    "raw": b"\x00\xff",
    "address": "2001:db8::1",
    "note": "it's 100 %",
}


def started():
    """Migrate, and start the hub."""
    call_command("migrate", verbosity=0)
    contrib.start(wait=True)


def values_and_instances():
    """Each value is what the instance has, and ``load()`` gives the instance."""
    started()
    when = datetime.datetime(2026, 3, 29, 1, 30, 0, 5)
    if connection.settings_dict["TIME_ZONE"] is None and _uses_zones():
        when = when.replace(tzinfo=datetime.timezone.utc)
    customer = Customer.objects.create(name="Ann")
    order = Order.objects.create(customer=customer, placed=when, **VALUES)
    event = heard.next()
    fresh = Order.objects.get()
    for field in Order._meta.concrete_fields:
        got, wanted = event.new[field.column], getattr(fresh, field.attname)
        wanted = bytes(wanted) if field.attname == "raw" else wanted
        assert got == wanted and type(got) is type(wanted), (field.name, got, wanted)
    assert event.load() == order and event.load().customer == customer
    assert type(event.load(entity=Urgent)) is Urgent
    Order.objects.update(status=Order.PAID)
    event = heard.next()
    assert event.changed == ("State",) and event.key == order.pk
    Order.objects.all().delete()
    assert heard.next().load() is None
    contrib.stop()


def _uses_zones():
    from django.conf import settings

    return settings.USE_TZ


def kinds_of_models():
    """Fields, instances and models of every kind name what they mean."""
    received = pgevents.testing.Recorder()
    customer, other = Customer(name="Ann"), Customer(name="Bob")
    contrib.listen(
        Order, "after_update", received, columns=["status"], where={"customer": customer}
    )
    contrib.listen(Rush, "after_insert", received)
    contrib.listen(Urgent, "after_delete", received)
    contrib.listen(Order.tags, "after_insert", received)
    contrib.listen(Customer, "after_update", received, columns=[Customer.name])
    assert contrib.contains(Order.tags.through, "after_insert", received)
    started()
    customer.save()
    other.save()
    mine, others = (Order.objects.create(customer=one) for one in (customer, other))
    Order.objects.update(note="no matter")
    Order.objects.update(status="paid")
    event = received.next()
    assert event.key == mine.pk and event.new["cust"] == customer.pk
    mine.tags.add(Tag.objects.create(name="red"))
    event = received.next()
    assert event.load().order == mine, event
    rush = Rush.objects.create(hours=5)
    event = received.next()
    assert event.new == {"order_ptr_id": rush.pk, "hours": 5} and event.load() == rush
    others.delete()
    event = received.next()
    assert event.key == event.old["id"] and event.operation == "delete"
    Customer.objects.filter(pk=customer.pk).update(name="Anna")
    assert received.next().load().name == "Anna"
    for wrong in ({"columns": ["tags"]}, {"columns": [Customer.name]}, {"where": {Rush.hours: 1}}):
        try:
            contrib.listen(Order, "after_update", received, **wrong)
        except UsageError as error:
            assert "Order has id, customer" in str(error), error
        else:
            raise AssertionError(wrong)
    contrib.stop()


def fields_of_postgresql():
    """Values of django.contrib.postgres's fields are those of the instance, too."""
    from django.contrib.postgres import fields
    from django.core.serializers.json import DjangoJSONEncoder

    class Decoder(json.JSONDecoder):
        def decode(self, text):
            return {"decoded": super().decode(text)}

    class Room(models.Model):
        days = fields.ArrayField(models.DateField())
        prices = fields.ArrayField(fields.ArrayField(models.DecimalField(None, None, 6, 2)))
        times = fields.ArrayField(models.DateTimeField())
        span = fields.DateTimeRangeField()
        beds = fields.IntegerRangeField()
        none = fields.IntegerRangeField()
        own = models.JSONField(decoder=Decoder, encoder=DjangoJSONEncoder)
        text = models.JSONField(default=str)

        class Meta:
            app_label = "shop"

    with connection.schema_editor() as editor:
        editor.create_model(Room)
    rooms = pgevents.testing.Recorder()
    contrib.listen(Room, "after_insert", rooms)
    started()
    kind = Room._meta.get_field("span").range_type
    number = Room._meta.get_field("beds").range_type
    when = datetime.datetime(2026, 5, 6, 7, 8)
    if _uses_zones():
        when = when.replace(tzinfo=datetime.timezone.utc)
    Room.objects.create(
        days=[datetime.date(2026, 1, 2)],
        prices=[[decimal.Decimal("1.10"), None]],
        times=[when],
        span=kind(when, None, "[)"),
        beds=number(1, 5),
        none=number(empty=True),
        own={"a": 1},
        text="a text",
    )
    event, fresh = rooms.next(), Room.objects.get()
    for field in Room._meta.concrete_fields:
        got, wanted = event.new[field.column], getattr(fresh, field.attname)
        assert got == wanted and type(got) is type(wanted), (field.name, got, wanted)
    contrib.stop()


def two_databases():
    """A hub for each, with listeners, messages and instances of its own."""
    stocked = pgevents.testing.Recorder()
    told = pgevents.testing.Recorder()
    contrib.listen(Order, "after_insert", stocked, using="stock")
    contrib.subscribe("stock", using="stock")(told)
    call_command("migrate", database="stock", verbosity=0)
    started()
    order = Order.objects.using("stock").create()
    event = stocked.next()
    assert event.load() == order and event.load()._state.db == "stock"
    with transaction.atomic(using="stock"), contrib.context("stock", user=7):
        Order.objects.using("stock").create()
        contrib.publish("stock", 1, using=connections["stock"])
    assert stocked.next().context == {"user": 7} and told.next().payload == 1
    Order.objects.create()
    assert heard.next().load()._state.db == "default" and heard.rest() == []
    try:
        contrib.publish("stock", 1, using="no")
    except UsageError as error:
        assert "no hub for 'no'" in str(error)
    contrib.stop()


def in_transactions():
    """Messages, context and capture belong to Django's transaction."""
    started()
    try:
        with transaction.atomic():
            contrib.publish("orders.new", {"id": 1})
            raise KeyError
    except KeyError:
        pass
    with transaction.atomic():
        with contrib.context(user=7):
            Order.objects.create(note="a")
            contrib.publish("orders.new", {"id": 2}, key="k", metadata={"m": 1})
        with contrib.suppressed(connection):
            Order.objects.create(note="b")
        Order.objects.create(note="c")
    contrib.publish_many([("orders.new", 3), ("orders.old", 4)])
    message = messages.next()
    assert message.payload == {"id": 2} and message.key == "k", message
    assert message.context == {"user": 7}, message.context
    assert [one.payload for one in messages.take(2)] == [3, 4]
    events = heard.take(2)
    assert [event.new["note"] for event in events] == ["a", "c"]
    assert [event.context for event in events] == [{"user": 7}, {}], events
    for block in (contrib.context(user=1), contrib.suppressed()):
        try:
            with block:
                raise AssertionError("entered")
        except UsageError as error:
            assert "atomic()" in str(error)
    contrib.stop()


def migrated_beside_a_hub():
    """Each operation of a migration goes through beside a running hub, and nothing is missed."""
    gaps = []
    pgevents.signals.gap.connect(lambda hub, reason: gaps.append(reason), weak=False)
    inserted = pgevents.testing.Recorder()  # Django itself updates rows, to fill a column
    contrib.listen(Order, "after_insert", inserted)
    started()
    state = ProjectState.from_apps(_apps())
    for number, operation in enumerate(
        [
            migrations.AddField("order", "colour", models.CharField(max_length=5, default="red")),
            migrations.AlterField("order", "colour", models.CharField(max_length=50, null=True)),
            migrations.RenameField("order", "colour", "color"),
            migrations.AlterField("order", "note", models.CharField(max_length=99, default="")),
            migrations.RemoveField("order", "color"),
            migrations.RemoveField("order", "address"),
            migrations.AddIndex("order", models.Index(fields=["day"], name="by_day")),
            migrations.AlterField("order", "weight", models.FloatField(default=1.0, db_index=True)),
            migrations.AlterField("customer", "name", models.CharField(max_length=9, unique=True)),
            migrations.RenameField("order", "gift", "present"),
            migrations.RemoveField("order", "tags"),
            migrations.RunSQL('ALTER TABLE "Shop orders" RENAME COLUMN day TO morning'),
        ]
    ):
        before = state.clone()
        operation.state_forwards("shop", state)
        _insert(before, number)
        with connection.schema_editor(atomic=True) as editor:
            operation.database_forwards("shop", editor, before, state)
            if not isinstance(operation, migrations.RunSQL):
                _insert(state, number)
        for event in inserted.take(1 if isinstance(operation, migrations.RunSQL) else 2):
            assert event.new["took"] == datetime.timedelta(seconds=number), (operation, event)
    assert contrib.hub().drain()
    assert gaps == [] and contrib.hub().status()["warnings"] == [], contrib.hub().status()
    contrib.stop()


def _apps():
    from django.apps import apps

    return apps


def _insert(state, number):
    model = state.apps.get_model("shop", "Order")
    model.objects.create(took=datetime.timedelta(seconds=number), weight=1)


def first_request():
    """The hub starts with the first request, not before, and receives what that one writes."""
    import io

    from django.core.wsgi import get_wsgi_application

    call_command("migrate", verbosity=0)
    call_command("check", verbosity=0)
    application = get_wsgi_application()
    assert contrib.hub().status()["state"] == "stopped"
    environ = {"REQUEST_METHOD": "GET", "PATH_INFO": "/order", "wsgi.input": io.BytesIO()}
    environ.update(SERVER_NAME="x", SERVER_PORT="80")
    response = application(environ, lambda *_: None)
    assert heard.next().new["note"] == "/order", b"".join(response)
    contrib.stop()


def addresses():
    """Print where each alias leads, as psycopg2 takes it."""
    from pgevents.contrib.django.address import url_of
    from pgevents.postgres.address import Address

    for alias in connections:
        try:
            url = url_of(alias)
        except UsageError as error:
            print(json.dumps([alias, str(error)]))
            continue
        found = url.database if url.drivername == "sqlite" else Address(url).parameters()
        print(json.dumps([alias, found]))


def commands():
    """Run the verbs of ``manage.py pgevents``, with a line between what they print."""
    call_command("migrate", verbosity=0)
    try:
        call_command("pgevents", "status", "--database", "default", "--json")
    except SystemExit as ended:
        assert not ended.code
    for words in (
        ("pgevents", "uninstall"),
        ("check", "--database", "default"),
        ("pgevents", "install"),
        ("check", "--database", "default"),
    ):
        print("--", flush=True)
        call_command(*words, stderr=sys.stdout)


def no_database():
    """A database that is down ends no site."""
    request_started.send(sender=None)
    wait_for(lambda: contrib.hub().status()["error"])
    contrib.stop()
