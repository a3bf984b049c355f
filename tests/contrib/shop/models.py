"""Models of many kinds."""

import uuid

from django.db import models


class Customer(models.Model):
    id = models.UUIDField(primary_key=True, default=uuid.uuid4)
    name = models.CharField(max_length=100)


class Tag(models.Model):
    name = models.CharField(max_length=20)


class Order(models.Model):
    NEW, PAID = "new", "paid"

    customer = models.ForeignKey(Customer, models.CASCADE, null=True, db_column="cust")
    status = models.CharField(max_length=10, default=NEW, db_column="State")
    total = models.DecimalField(max_digits=12, decimal_places=2, default=0)
    placed = models.DateTimeField(null=True)
    day = models.DateField(null=True)
    clock = models.TimeField(null=True)
    took = models.DurationField(null=True)
    gift = models.BooleanField(default=False)
    weight = models.FloatField(null=True)
    extra = models.JSONField(null=True)
    code = models.UUIDField(null=True)
    raw = models.BinaryField(null=True)
    address = models.GenericIPAddressField(null=True)
    note = models.TextField(null=True)
    tags = models.ManyToManyField(Tag)

    class Meta:
        db_table = "Shop orders"


class Urgent(Order):
    class Meta:
        proxy = True


class Rush(Order):
    hours = models.IntegerField(default=1)
