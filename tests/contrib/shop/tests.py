"""Tests of the app, as a project has them: ``manage.py test`` runs them."""

from django.db import connection
from django.test import Client, TestCase, TransactionTestCase

from pgevents.contrib import django as contrib
from pgevents.contrib.django.testing import ListeningMixin
from pgevents.testing import FakeHub

from .events import heard
from .models import Order


class Listening(ListeningMixin, TransactionTestCase):
    def test_what_is_committed_is_received(self):
        order = Order.objects.create(note="x")
        self.drain()
        assert heard.next().load() == order

    def test_the_next_test_is_as_good(self):
        self.test_what_is_committed_is_received()


class InATransaction(TestCase):
    def test_the_triggers_were_there_before_the_transaction_began(self):
        Order.objects.create()
        assert "ok" in {row["state"] for row in contrib.hub().installed()}
        log = "pgevents_log" if connection.vendor == "sqlite" else "pgevents.log"
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT count(*) FROM {log} WHERE operation = 'insert'")
            assert cursor.fetchone()[0] > 0

    def test_a_request_starts_no_hub(self):
        Client().get("/order")
        assert contrib.hub().status()["state"] == "stopped"

    def test_a_hub_without_a_database_takes_models(self):
        (event,) = FakeHub().insert(Order, {"id": 7, "State": "new"})
        assert heard.next() is event
